//! Kernels made of kernels: constants, sums and scaled products.

use std::sync::Arc;

use ndarray::{Array2, ArrayViewMut2};

use super::pairwise::{Elementary, Pairwise, check_finite, check_shapes};
use super::{Exponential, Kernel, SpectralTerm, expect_gradient, gradient, spectral};
use crate::error::Result;
use crate::matrix::{Mat64, Mat64Mut, MatMut, MatRef};
use crate::simd::{Fuse, Real};
use crate::spec::text::number;

/// κ(x, y) = c ≥ 0: one constant eigenfunction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Constant(pub(super) f64);

impl Pairwise for Constant {
    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, _: T, _: T) -> T {
        total
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, _: T) -> T {
        T::of(self.0)
    }
}

impl Elementary for Constant {
    const NAME: &'static str = "constant";
    fn text(&self) -> String {
        number(self.0)
    }
    fn spectral(&self) -> Option<Vec<SpectralTerm>> {
        Some(spectral::constant(self.0))
    }
    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        Some(self.write_gradient(x, y, out))
    }
}

/// Σᵢ κᵢ, in order. Positive semi-definite when every part is.
#[derive(Debug)]
pub(super) struct Sum(pub(super) Vec<Arc<dyn Kernel>>);

/// c·Πᵢ κᵢ, in order, c > 0. Positive semi-definite when every part is (Schur's product theorem).
#[derive(Debug)]
pub(super) struct Product {
    pub(super) factor: f64,
    pub(super) parts: Vec<Arc<dyn Kernel>>,
}

/// The values of all `parts` folded into `out` with `join`, one scratch matrix for them all.
fn fold<T: Real>(
    parts: &[Arc<dyn Kernel>],
    mut out: ArrayViewMut2<'_, T>,
    gram: impl Fn(&dyn Kernel, ArrayViewMut2<'_, T>) -> Result<()>,
    join: impl Fn(T, T) -> T,
) -> Result<()> {
    let mut scratch = None;
    for (i, part) in parts.iter().enumerate() {
        if i == 0 {
            gram(part.as_ref(), out.view_mut())?;
            continue;
        }
        let scratch = scratch.get_or_insert_with(|| Array2::from_elem(out.dim(), T::ZERO));
        gram(part.as_ref(), scratch.view_mut())?;
        out.zip_mut_with(scratch, |a, b| *a = join(*a, *b));
    }
    Ok(())
}

fn check_all_finite<T: Real>(what: &str, out: &ArrayViewMut2<'_, T>) -> Result<()> {
    match out.as_slice() {
        Some(values) => check_finite(what, values),
        None => out.iter().try_for_each(|v| check_finite(what, &[*v])),
    }
}

impl Sum {
    fn evaluate<T: Real>(
        &self,
        x: MatRef<'_>,
        y: MatRef<'_>,
        mut out: ArrayViewMut2<'_, T>,
        gram: impl Fn(&dyn Kernel, ArrayViewMut2<'_, T>) -> Result<()>,
    ) -> Result<()> {
        check_shapes(x, y, &out)?;
        fold(&self.0, out.view_mut(), gram, |a, b| a + b)?;
        check_all_finite("sum", &out)
    }
}

impl Kernel for Sum {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Result<()> {
        self.evaluate(x, y, out, |part, out| part.gram(x, y, out))
    }

    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, out: MatMut<'_>) -> Result<()> {
        self.evaluate(x, y, out, |part, out| part.gram_f32(x, y, out))
    }

    fn diag(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        let mut sum = vec![0.0; x.nrows()];
        for part in &self.0 {
            sum.iter_mut().zip(part.diag(x)?).for_each(|(s, v)| *s += v);
        }
        check_finite("sum", &sum)?;
        Ok(sum)
    }

    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        Some(self.write_gradient(x, y, out))
    }

    fn text(&self) -> String {
        self.0.iter().map(|part| part.text()).collect::<Vec<_>>().join(" + ")
    }

    fn is_positive_semidefinite(&self) -> bool {
        self.0.iter().all(|part| part.is_positive_semidefinite())
    }

    fn spectral(&self) -> Option<Vec<SpectralTerm>> {
        let terms: Option<Vec<_>> = self.0.iter().map(|part| part.spectral()).collect();
        Some(terms?.concat())
    }
}

impl Constant {
    fn write_gradient(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: Mat64Mut<'_>) -> Result<()> {
        gradient::check(x, y, out.view())?;
        // What is no number is found as in values.
        self.gram(x, y, Mat64::zeros((x.nrows(), y.nrows())).view_mut())?;
        out.fill(0.0);
        Ok(())
    }
}

impl Sum {
    fn write_gradient(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: Mat64Mut<'_>) -> Result<()> {
        gradient::check(x, y, out.view())?;
        fold(&self.0, out.view_mut(), |part, out| expect_gradient(part, x, y, out), |a, b| a + b)?;
        check_all_finite("sum", &out)
    }
}

impl Product {
    fn write_gradient(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: Mat64Mut<'_>) -> Result<()> {
        gradient::check(x, y, out.view())?;
        let values = |part: &Arc<dyn Kernel>| {
            let mut values = Mat64::zeros((x.nrows(), y.nrows()));
            part.gram(x, y, values.view_mut()).map(|()| values)
        };
        let values: Vec<Mat64> = self.parts.iter().map(values).collect::<Result<_>>()?;
        out.fill(0.0);
        let mut scratch = Mat64::zeros(out.dim());
        for (i, part) in self.parts.iter().enumerate() {
            expect_gradient(&**part, x, y, scratch.view_mut())?;
            let mut others = Mat64::from_elem((x.nrows(), y.nrows()), self.factor);
            for (_, value) in values.iter().enumerate().filter(|(k, _)| *k != i) {
                others *= value;
            }
            gradient::add_scaled(&scratch, &others, &mut out);
        }
        check_all_finite("product", &out)
    }

    fn evaluate<T: Real>(
        &self,
        x: MatRef<'_>,
        y: MatRef<'_>,
        mut out: ArrayViewMut2<'_, T>,
        gram: impl Fn(&dyn Kernel, ArrayViewMut2<'_, T>) -> Result<()>,
    ) -> Result<()> {
        check_shapes(x, y, &out)?;
        fold(&self.parts, out.view_mut(), gram, |a, b| a * b)?;
        let factor = T::of(self.factor);
        out.map_inplace(|v| *v = *v * factor);
        check_all_finite("product", &out)
    }
}

impl Kernel for Product {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Result<()> {
        self.evaluate(x, y, out, |part, out| part.gram(x, y, out))
    }

    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, out: MatMut<'_>) -> Result<()> {
        self.evaluate(x, y, out, |part, out| part.gram_f32(x, y, out))
    }

    fn diag(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        let mut product = vec![1.0; x.nrows()];
        for part in &self.parts {
            product.iter_mut().zip(part.diag(x)?).for_each(|(p, v)| *p *= v);
        }
        product.iter_mut().for_each(|p| *p *= self.factor);
        check_finite("product", &product)?;
        Ok(product)
    }

    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        Some(self.write_gradient(x, y, out))
    }

    fn text(&self) -> String {
        let texts: Vec<String> = self.parts.iter().map(|part| part.text()).collect();
        // Only sums hold this; brackets around anything else would do no harm.
        let sum = |text: &str| text.contains(" + ");
        // The factor of a lone sum is kept even if it is 1: without it the sum would melt into a
        // sum around it, whose order of addition is another.
        let shown = self.factor != 1.0 || matches!(&texts[..], [only] if sum(only));
        let factor = shown.then(|| number(self.factor));
        let parts = texts.iter().map(|t| if sum(t) { format!("({t})") } else { t.clone() });
        factor.into_iter().chain(parts).collect::<Vec<_>>().join("*")
    }

    fn is_positive_semidefinite(&self) -> bool {
        self.parts.iter().all(|part| part.is_positive_semidefinite())
    }

    fn spectral(&self) -> Option<Vec<SpectralTerm>> {
        spectral::product(self.factor, self.parts.iter().map(|part| part.spectral()))
    }

    fn exponential(&self) -> Option<Exponential> {
        let mut product = Exponential { weight: self.factor, gamma: 0.0, decay: 0.0 };
        for part in &self.parts {
            let part = part.exponential()?;
            product.weight *= part.weight;
            product.gamma += part.gamma;
            product.decay += part.decay;
        }
        Some(product)
    }
}
