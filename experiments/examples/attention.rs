//! Linear attention by positive random features beside exact softmax attention: time and error.
//!
//! `cargo run --release -p neuralef-experiments --example attention` — q, k and v are standard normal, d = 64,
//! 256 features, 2 threads unless RAYON_NUM_THREADS says otherwise. Best of a few runs, taken in
//! turn. Errors are of the output: the mean square, and relative to the norm of the exact output.

use std::time::Instant;

use neuralef::attention::{LinearAttention, exact, linear};
use neuralef::{Mat, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

const WIDTH: usize = 64;

fn normal(n: usize, scale: f32, rng: &mut ChaCha8Rng) -> Mat {
    Mat::from_shape_simple_fn((n, WIDTH), || {
        let v: f32 = StandardNormal.sample(rng);
        scale * v
    })
}

/// The least seconds of some runs, and the result.
fn best(runs: usize, mut work: impl FnMut() -> Result<Mat>) -> Result<(f64, Mat)> {
    let mut least = f64::INFINITY;
    let mut last = Mat::zeros((0, 0));
    for _ in 0..runs {
        let start = Instant::now();
        last = work()?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok((least, last))
}

fn mean_square(x: &Mat) -> f64 {
    x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / x.len() as f64
}

fn main() -> Result<()> {
    for (title, scale, causal) in [
        ("q, k ~ N(0, 1)", 1.0, false),
        ("q, k ~ N(0, 1/4)", 0.5, false),
        ("q, k ~ N(0, 1), causal", 1.0, true),
    ] {
        println!("{title}, v ~ N(0, 1), d = {WIDTH}, 256 features");
        println!("     n   exact, ms  linear, ms  ratio  mean square error  relative error");
        let mut from = None;
        for power in 8..=14 {
            let n = 1usize << power;
            let mut rng = ChaCha8Rng::seed_from_u64(power);
            let (q, k) = (normal(n, scale, &mut rng), normal(n, scale, &mut rng));
            let v = normal(n, 1.0, &mut rng);
            let options = LinearAttention { causal, ..LinearAttention::default() };
            let runs = if n > 4096 { 2 } else { 7 };
            let (slow, truth) = best(runs, || exact(q.view(), k.view(), v.view(), causal))?;
            let (fast, found) = best(runs, || linear(q.view(), k.view(), v.view(), &options))?;
            let (error, size) = (mean_square(&(&found - &truth)), mean_square(&truth));
            println!(
                "{n:>6}  {:>10.2}  {:>10.2}  {:>5.2}  {error:>17.2e}  {:>14.3}",
                1e3 * slow,
                1e3 * fast,
                slow / fast,
                (error / size).sqrt()
            );
            if fast < slow {
                from = from.or(Some(n));
            } else {
                from = None;
            }
        }
        match from {
            Some(n) => println!("linear is faster from n = {n}\n"),
            None => println!("linear is not faster\n"),
        }
    }
    Ok(())
}
