//! Operators of matrix-valued kernels against dense arithmetic in double precision.

use ndarray::{Axis, s};

use super::*;
use crate::data::Dataset;
use crate::linalg::tests::random;
use crate::matrix::{Mat, Mat64};

const POINTS: usize = 40;
const C: usize = 3;
const SAMPLES: usize = 11;

/// Both operators of one kernel, with its N·C × N·C matrix and the error of stored numbers.
fn operators() -> Vec<(Box<dyn KernelOperator>, Mat64, f64)> {
    let phi = random(POINTS * C, SAMPLES, 1).mapv(|v| v as f32);
    let exact = phi.mapv(f64::from);
    let gram = exact.dot(&exact.t()) / SAMPLES as f64;
    let features = FeatureOperator::new(Dataset::from_array("phi", phi).unwrap(), C).unwrap();
    let stored = Dataset::from_array("gram", gram.mapv(|v| v as f32)).unwrap();
    let precomputed = PrecomputedOperator::new(stored, C).unwrap();
    vec![(Box::new(features), gram.clone(), 1e-14), (Box::new(precomputed), gram, 2e-7)]
}

fn batch(points: &[usize]) -> Batch {
    Batch { indices: points.to_vec(), x: Mat::zeros((points.len(), 1)) }
}

fn close(got: &Mat64, want: &Mat64, tolerance: f64) {
    assert_eq!(got.dim(), want.dim());
    let worst = (got - want).iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(worst < tolerance, "{worst:e}, not below {tolerance:e}");
}

/// The scalar kernel vᵀκv, or the trace for none.
fn scalar(gram: &Mat64, direction: Option<&[f64]>) -> Mat64 {
    Mat64::from_shape_fn((POINTS, POINTS), |(i, j)| {
        let block = gram.slice(s![i * C..(i + 1) * C, j * C..(j + 1) * C]);
        match direction {
            None => block.diag().sum(),
            Some(v) => {
                let v = ndarray::aview1(v);
                v.dot(&block.dot(&v))
            }
        }
    })
}

/// `apply`, `image`, `quadratic_form` and `diag` of an operator with `c` rows for each point.
fn check(operator: &dyn KernelOperator, gram: &Mat64, c: usize, error: f64) {
    assert_eq!(operator.outputs(), c);
    let points = [7, 3, 21, 8, 36];
    let rows = rows_of_points(&points, c);
    let local = gram.select(Axis(0), &rows).select(Axis(1), &rows);
    let psi = random(rows.len(), 2, 5);
    for diagonal in [Diagonal::Keep, Diagonal::Drop] {
        let (mut kept, mut divisor) = (local.clone(), 5.0);
        if diagonal == Diagonal::Drop {
            divisor = 4.0;
            for p in 0..5 {
                kept.slice_mut(s![p * c..(p + 1) * c, p * c..(p + 1) * c]).fill(0.0);
            }
        }
        let mut out = Mat::zeros(psi.raw_dim());
        let single = psi.mapv(|v| v as f32);
        operator.apply(&batch(&points), single.view(), diagonal, out.view_mut()).unwrap();
        close(&out.mapv(f64::from), &(kept.dot(&psi) / divisor), 3e-6);
    }
    let sample: Vec<usize> = (0..POINTS).step_by(2).collect();
    let n = sample.len() as f64;
    let of_sample = rows_of_points(&sample, c);
    let values = random(of_sample.len(), 4, 6);
    let blocks = [batch(&sample[..9]), batch(&sample[9..])];
    let image = operator.applied(&blocks, values.clone()).unwrap();
    let across = gram.select(Axis(0), &rows).select(Axis(1), &of_sample);
    close(&image.at(&batch(&points)).unwrap(), &(across.dot(&values) / n), 10.0 * error);
    let own = gram.select(Axis(0), &of_sample).select(Axis(1), &of_sample);
    let form = operator.quadratic_form(&blocks, &values, &mut |_, _| Ok(())).unwrap();
    let want = values.t().dot(&own.dot(&values)) / (n * n * c as f64);
    close(&form, &want, 10.0 * error);
    let diag = operator.diag(&batch(&points)).unwrap();
    for (p, value) in diag.iter().enumerate() {
        let want = local.slice(s![p * c..(p + 1) * c, p * c..(p + 1) * c]).diag().sum();
        assert!((value - want).abs() < 10.0 * error, "{value} {want}");
    }
    assert!(operator.applied(&blocks, random(3, 4, 6)).is_err());
}

#[test]
fn the_whole_kernel_and_its_scalar_parts_are_dense_products() {
    let u = [0.6, -0.48, 0.64];
    for (operator, gram, error) in operators() {
        check(&*operator, &gram, C, error);
        let whole = operator.matrix_valued().unwrap();
        let trace = whole.trace();
        check(&*trace, &scalar(&gram, None), 1, C as f64 * error);
        assert!(trace.matrix_valued().is_none());
        let along = whole.along(&u).unwrap();
        check(&*along, &scalar(&gram, Some(&u)), 1, C as f64 * error);
        assert!(whole.along(&u[..2]).is_err());
    }
}

#[test]
fn covariance_of_the_outputs_is_the_mean_of_the_blocks_of_points() {
    let sample: Vec<usize> = (1..POINTS).step_by(3).collect();
    for (operator, gram, error) in operators() {
        let mut want = Mat64::zeros((C, C));
        for i in &sample {
            want += &gram.slice(s![i * C..(i + 1) * C, i * C..(i + 1) * C]);
        }
        want /= sample.len() as f64;
        let blocks = [batch(&sample[..5]), batch(&sample[5..])];
        close(&operator.matrix_valued().unwrap().covariance(&blocks).unwrap(), &want, error);
    }
}

#[test]
fn the_form_of_products_is_that_of_the_products_written_out() {
    let sample: Vec<usize> = (0..POINTS).rev().step_by(3).collect();
    let n = sample.len();
    let w = random(n, 4, 9);
    // Row (i, c), column (p, c'): w_p(x_i) where c = c'.
    let products = Mat64::from_shape_fn((n * C, 4 * C), |(row, column)| {
        if row % C == column % C { w[[row / C, column / C]] } else { 0.0 }
    });
    let rows = rows_of_points(&sample, C);
    for (operator, gram, error) in operators() {
        let own = gram.select(Axis(0), &rows).select(Axis(1), &rows);
        let want = products.t().dot(&own.dot(&products)) / (n * n) as f64;
        let blocks = [batch(&sample[..6]), batch(&sample[6..])];
        let whole = operator.matrix_valued().unwrap();
        let mut ticks = 0;
        let form = whole
            .product_form(&blocks, &w, &mut |_, _| {
                ticks += 1;
                Ok(())
            })
            .unwrap();
        assert!(ticks > 0);
        close(&form, &want, 10.0 * error);
        assert_eq!(form, form.t());
        assert!(whole.product_form(&blocks, &random(n + 1, 4, 9), &mut |_, _| Ok(())).is_err());
        let stop = |_, _| Err(crate::Error::Interrupted { step: 3, checkpoint: None });
        assert!(whole.product_form(&blocks, &w, &mut { stop }).is_err());
    }
}

#[test]
fn forms_along_directions_are_those_of_the_scalar_kernels() {
    let sample: Vec<usize> = (0..POINTS).step_by(3).collect();
    let n = sample.len();
    let (w, u) = (random(n, 4, 9), random(C, 5, 10));
    let blocks = [batch(&sample[..6]), batch(&sample[6..])];
    let quiet = &mut |_: usize, _: usize| Ok(());
    for (operator, gram, error) in operators() {
        let whole = operator.matrix_valued().unwrap();
        let mut last = (0, 0);
        let forms = whole
            .forms_along(&blocks, &w, u.view(), &mut |done, total| {
                last = (done, total);
                Ok(())
            })
            .unwrap();
        assert_eq!((forms.len(), last.0 + 1), (5, last.1));
        for (form, direction) in forms.iter().zip(u.axis_iter(Axis(1))) {
            let scalar = scalar(&gram, Some(&direction.to_vec()));
            let own = scalar.select(Axis(0), &sample).select(Axis(1), &sample);
            let want = w.t().dot(&own.dot(&w)) / (n * n) as f64;
            // Sums of C² numbers of the kernel with weights below 1.
            close(form, &want, 10.0 * (C * C) as f64 * error);
            assert_eq!(form, form.t());
        }
        assert!(whole.forms_along(&blocks, &w, random(C + 1, 2, 1).view(), quiet).is_err());
        assert!(whole.forms_along(&blocks, &random(n + 1, 4, 9), u.view(), quiet).is_err());
    }
    // As many passes as memory asks for, to the same bits.
    let phi = Dataset::from_array("phi", random(POINTS * C, SAMPLES, 1).mapv(|v| v as f32));
    let operator = FeatureOperator::new(phi.unwrap(), C).unwrap();
    let forms = |group| operator.forms_in_groups(group, &blocks, &w, u.view(), &mut |_, _| Ok(()));
    let whole = forms(5).unwrap();
    for group in [1, 2, 4] {
        assert_eq!(forms(group).unwrap(), whole, "{group}");
    }
}

#[test]
fn sizes_that_are_no_multiple_of_the_outputs_are_refused() {
    let square = |n: usize| Dataset::from_array("g", Mat::eye(n)).unwrap();
    assert!(PrecomputedOperator::new(square(6), 3).is_ok());
    assert!(PrecomputedOperator::new(square(7), 3).is_err());
    assert!(PrecomputedOperator::new(square(6), 0).is_err());
}
