//! The products against sums in double precision, bit for bit, and against faer's.

use super::*;
use rand::RngExt as _;

fn draw(n: usize, stream: u64) -> Vec<f32> {
    let mut rng = crate::rng::stream(7, "test", stream);
    (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect()
}

const ARCHS: fn() -> [Arch; 2] = || [Arch::new(), Arch::Scalar];
const SIZES: [(usize, usize, usize); 13] = [
    (1, 1, 1),
    (7, 1, 32),
    (13, 32, 1),
    (6, 32, 32),
    (96, 33, 40),
    (5, 6, 7),
    (11, 17, 10),
    (3, 9, 1),
    (2, 0, 5),
    (9, 64, 130),
    (4, 12, 24),
    (10, 98, 100),
    (0, 3, 3),
];

#[test]
fn products_agree_with_sums_in_double_precision() {
    for arch in ARCHS() {
        let lanes = lanes(arch);
        for (rows, inner, outer) in SIZES {
            let ld = stride(outer, lanes);
            let (a, w, b) = (draw(rows * inner, 1), draw(inner * outer, 2), draw(outer, 3));
            let slope = draw(rows * ld, 4);
            let mut panels = Panels::default();
            panels.pack(lanes, &w, &b, inner, outer);
            let mut c = vec![0.0; rows * ld];
            multiply(
                arch,
                Rows { data: &a, stride: inner, count: rows },
                &panels,
                Start::Bias,
                Some(&slope),
                &mut c,
            );
            // Wᵀ packed from its transpose must do the same, starting from what is there.
            let wt: Vec<f32> = (0..inner * outer)
                .map(|i| w[i % inner.max(1) * outer + i / inner.max(1)])
                .collect();
            let mut again = vec![0.5; rows * ld];
            panels.pack_transposed(lanes, &wt, inner, outer);
            multiply(
                arch,
                Rows { data: &a, stride: inner, count: rows },
                &panels,
                Start::Output,
                None,
                &mut again,
            );
            for r in 0..rows {
                for j in 0..outer {
                    let dot: f64 = (0..inner)
                        .map(|p| f64::from(a[r * inner + p]) * f64::from(w[p * outer + j]))
                        .sum();
                    let at = r * ld + j;
                    let exact = (dot + f64::from(b[j])) * f64::from(slope[at]);
                    let tolerance = 1e-7 * (2.0 + inner as f64);
                    assert!((f64::from(c[at]) - exact).abs() < tolerance);
                    assert!((f64::from(again[at]) - 0.5 - dot).abs() < tolerance);
                }
            }
        }
    }
}

#[test]
fn gradients_agree_with_sums_in_double_precision() {
    for arch in ARCHS() {
        let lanes = lanes(arch);
        for (rows, inner, outer) in SIZES.into_iter().filter(|s| s.1 > 0) {
            let ld = stride(outer, lanes);
            let (a, dz) = (draw(rows * inner, 1), draw(rows * ld, 2));
            let (mut dw, mut db) = (vec![1.0; inner * outer], vec![1.0; outer]);
            accumulate(
                arch,
                Rows { data: &a, stride: inner, count: rows },
                &dz,
                &mut dw,
                &mut db,
                &mut Vec::new(),
            );
            let tolerance = 1e-7 * (2.0 + rows as f64);
            for j in 0..outer {
                let sum = |i: Option<usize>| -> f64 {
                    let x = |r| i.map_or(1.0, |i| f64::from(a[r * inner + i]));
                    (0..rows).map(|r| x(r) * f64::from(dz[r * ld + j])).sum()
                };
                assert!((f64::from(db[j]) - 1.0 - sum(None)).abs() < tolerance);
                for i in 0..inner {
                    let got = f64::from(dw[i * outer + j]) - 1.0;
                    assert!((got - sum(Some(i))).abs() < tolerance, "{rows} {inner} {outer}");
                }
            }
        }
    }
}

#[test]
fn bits_of_a_row_do_not_depend_on_its_place() {
    let arch = Arch::new();
    let lanes = lanes(arch);
    for (_, inner, outer) in SIZES {
        let (a, w, b) = (draw(20 * inner, 1), draw(inner * outer, 2), draw(outer, 3));
        let ld = stride(outer, lanes);
        let mut panels = Panels::default();
        panels.pack(lanes, &w, &b, inner, outer);
        let mut all = vec![0.0; 20 * ld];
        multiply(
            arch,
            Rows { data: &a, stride: inner, count: 20 },
            &panels,
            Start::Bias,
            None,
            &mut all,
        );
        for first in 0..20 {
            for rows in 1..=20 - first {
                let mut some = vec![0.0; rows * ld];
                multiply(
                    arch,
                    Rows { data: &a[first * inner..], stride: inner, count: rows },
                    &panels,
                    Start::Bias,
                    None,
                    &mut some,
                );
                assert_eq!(some, all[first * ld..(first + rows) * ld]);
            }
        }
    }
}

/// Own kernels against faer's serial product. Run in release:
/// `cargo test --release -p neuralef faer_ratio -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, meaningful in release only"]
fn faer_ratio() {
    use faer::linalg::matmul::matmul;
    use faer::{Accum, MatMut, MatRef, Par};
    fn best(mut f: impl FnMut(), flops: usize) -> f64 {
        let repeats = (4_000_000 / flops).max(1);
        let mut best = f64::INFINITY;
        for _ in 0..15 {
            let start = std::time::Instant::now();
            (0..repeats).for_each(|_| f());
            best = best.min(start.elapsed().as_secs_f64() / repeats as f64);
        }
        best
    }
    let arch = Arch::new();
    let lanes = lanes(arch);
    println!(
        "{:>5} {:>5} {:>5} {:>24} {:>24}",
        "rows", "in", "out", "A·W GMAC/s own/faer", "AᵀdZ GMAC/s own/faer"
    );
    for (rows, inner, outer) in [
        (96, 1, 32),
        (96, 32, 32),
        (96, 32, 1),
        (96, 64, 64),
        (96, 64, 10),
        (96, 128, 128),
        (96, 256, 256),
        (96, 512, 512),
        (96, 784, 1024),
        (96, 1024, 1024),
    ] {
        let ld = stride(outer, lanes);
        let (a, w, b) = (draw(rows * inner, 1), draw(inner * outer, 2), draw(outer, 3));
        let mut panels = Panels::default();
        panels.pack(lanes, &w, &b, inner, outer);
        let mut c = vec![0.0f32; rows * ld];
        let flops = rows * inner * outer;
        let own = best(
            || {
                multiply(
                    arch,
                    Rows { data: &a, stride: inner, count: rows },
                    &panels,
                    Start::Bias,
                    None,
                    &mut c,
                )
            },
            flops,
        );
        let mut cf = vec![0.0f32; rows * outer];
        let faer_forward = best(
            || {
                matmul(
                    MatMut::from_row_major_slice_mut(&mut cf, rows, outer),
                    Accum::Replace,
                    MatRef::from_row_major_slice(&a, rows, inner),
                    MatRef::from_row_major_slice(&w, inner, outer),
                    1.0,
                    Par::Seq,
                );
            },
            flops,
        );
        let (mut dw, mut db) = (vec![0.0f32; inner * outer], vec![0.0f32; outer]);
        let own_gradient = best(
            || {
                accumulate(
                    arch,
                    Rows { data: &a, stride: inner, count: rows },
                    &c,
                    &mut dw,
                    &mut db,
                    &mut Vec::new(),
                )
            },
            flops,
        );
        let faer_gradient = best(
            || {
                matmul(
                    MatMut::from_row_major_slice_mut(&mut dw, inner, outer),
                    Accum::Add,
                    MatRef::from_row_major_slice(&a, rows, inner).transpose(),
                    MatRef::from_row_major_slice(&cf, rows, outer),
                    1.0,
                    Par::Seq,
                );
            },
            flops,
        );
        let rate = |t: f64| flops as f64 / t / 1e9;
        println!(
            "{rows:>5} {inner:>5} {outer:>5} {:>8.1} {:>7.1} {:>7.2} {:>8.1} {:>7.1} {:>7.2}",
            rate(own),
            rate(faer_forward),
            faer_forward / own,
            rate(own_gradient),
            rate(faer_gradient),
            faer_gradient / own_gradient
        );
    }
}
