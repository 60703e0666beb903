//! Exact eigenpairs of the Gram matrix of all training points, extended by the kernel.
//!
//! This is the oracle the other methods are measured against. The Gram matrix is not centred: its
//! eigenvectors are those of κ itself, where scikit-learn's `KernelPCA` first subtracts the means of
//! features (those of κ − row means − column means + mean). For eigenfunctions orthogonal to the
//! constant the two agree; in general they do not.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::landmark_points::LandmarkPoints;
use super::nystrom_method::{few_directions, load};
use super::{EXTENDS, Fitted, Method, MethodRecord, Nystrom, Run, timed};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::certificate::{Image, Measured};
use crate::fit::{FitSpec, Problem};
use crate::kernel::{IndexedPoints, Kernel};
use crate::linalg::{
    PartialEigen, eigh_bytes, expect_finite_f64, is_partial, matmul_f64, norm2, partial_bytes,
    top_eigh, top_eigh_operator,
};
use crate::matrix::Mat64;
use crate::memory::MemoryBudget;
use crate::observer::{Control, Event, Observer};
use crate::operator::{Batch, SymmetricGram, symmetric_gram};
use crate::persist::Archive;
use crate::spec::{Choice, Domain, Entry, Parameter};

/// Registry entry: `kernel_pca(solver=auto)`.
pub(super) const ENTRY: Entry<Arc<dyn Method>> = Entry {
    name: "kernel_pca",
    summary: "exact eigenvectors of the Gram matrix of all training points, not centred, extended \
              by the kernel",
    parameters: &[Parameter::new(
        "solver",
        Domain::choice::<Solver>(),
        "auto",
        "dense: stores the N × N Gram matrix; matrix_free: evaluates it anew for every product; \
         auto: dense within the memory budget",
    )],
    build: |args| Ok(Arc::new(KernelPca { solver: args.choice("solver")? })),
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Solver {
    Auto,
    Dense,
    MatrixFree,
}

impl Choice for Solver {
    const KIND: &'static str = "solver";
    const ALL: &'static [(&'static str, Self)] =
        &[("auto", Solver::Auto), ("dense", Solver::Dense), ("matrix_free", Solver::MatrixFree)];
}

/// See the [module](self). With K the Gram matrix of the N training points and Ku = λu: μ = λ/N,
/// ψ(x) = √N/λ κ(x, X)u, so ψ at the training points is √N·u.
///
/// Both solvers iterate on blocks of about 1.25·k vectors (restarted block Krylov, residuals of
/// some ε√N·λ₁). `dense` stores K once, 8N² bytes, and multiplies with it, O(N²k) each time;
/// `matrix_free` evaluates the tiles above the diagonal for every product, O(N²(d/2 + k)), and keeps
/// about 20k vectors. When k is not small against N (above about N/20) the whole decomposition is
/// cheaper, and both solvers take the memory and the O(N³) of that.
#[derive(Debug)]
struct KernelPca {
    solver: Solver,
}

/// What solves a problem of a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// All eigenpairs of the stored matrix.
    Whole,
    /// Leading ones, by products with the stored matrix.
    Stored,
    /// Leading ones, by products with tiles that are evaluated when they are needed.
    MatrixFree,
}

impl KernelPca {
    /// The plan for k pairs of n points, and the bytes it takes.
    fn plan(&self, n: usize, k: usize, budget: MemoryBudget) -> (Plan, u64) {
        let gram = 8 * (n as u64).saturating_mul(n as u64);
        if !is_partial(n, k) {
            return (Plan::Whole, gram.saturating_add(eigh_bytes(n)));
        }
        let vectors = partial_bytes(n, k);
        let stored = (Plan::Stored, gram.saturating_add(vectors));
        match self.solver {
            Solver::Dense => stored,
            Solver::Auto if budget.holds(stored.1) => stored,
            _ => (Plan::MatrixFree, vectors),
        }
    }
}

impl Method for KernelPca {
    fn fit(&self, problem: &Problem, run: &mut Run<'_>) -> Result<Fitted> {
        let kernel = problem.expect_kernel("kernel_pca", EXTENDS)?;
        run.begin("kernel_pca", "kernel_pca")?;
        problem.expect_points_for_components()?;
        let (n, components) = (problem.split.train.len(), problem.spec.n_components);
        let (plan, bytes) = self.plan(n, components, problem.memory());
        let what = || match plan {
            Plan::MatrixFree => format!("{components} eigenvectors of {n} points"),
            _ => format!("the Gram matrix of {n} points, with what its solver takes,"),
        };
        problem.memory().expect(what, bytes)?;
        let watch = Watch { observer: RefCell::new(&mut *run.observer), done: Cell::new(0) };
        let map = timed(&mut run.timings.readout_seconds, || {
            let landmarks = LandmarkPoints::new(&**kernel, problem.batch(&problem.split.train)?);
            let (found, size) = solve(plan, &**kernel, landmarks.points(), components, &watch)?;
            let roots = vec![(n as f64).sqrt().recip(); n];
            Nystrom::from_eigenpairs(kernel.clone(), landmarks, &roots, &found, size)
        })?;
        let mut record = MethodRecord { landmarks: Some(n), ..MethodRecord::default() };
        if map.components() < components {
            record.warnings.push(few_directions(map.components(), components));
        }
        // All of them, however many: for their operator the pairs are exact, and it should show.
        let sample = problem.split.train.clone();
        let measured = match problem.spec.certificate {
            true => {
                let mut trace = 0.0;
                for batch in problem.blocks(&sample)? {
                    trace += problem.operator.diag(&batch)?.iter().sum::<f64>() / n as f64;
                }
                let eigenvalues = map.eigenvalues().unwrap_or_default().to_vec();
                let image = Box::new(Extension { eigenvalues });
                Some(Measured { map: Box::new(map.clone()), image, trace, points: n })
            }
            false => None,
        };
        Ok(Fitted { measured, ..Fitted::new(Box::new(map), sample, n, record) })
    }

    fn load(
        &self,
        archive: &Archive,
        _: &FitSpec,
        kernel: Option<Arc<dyn Kernel>>,
    ) -> Result<Box<dyn FeatureMap>> {
        Ok(Box::new(load(archive, kernel)?))
    }

    fn text(&self) -> String {
        ENTRY.text(&[("solver", &self.solver.name())])
    }
}

/// T̂ψ of eigenfunctions ψ(x) = κ(x, X)u√N/(Nμ) that eigenvectors make: μψ, to the rounding of Ku = λu, which
/// the solver has checked.
struct Extension {
    eigenvalues: Vec<f64>,
}

impl Image for Extension {
    fn at(&self, _: &Batch, psi: &Mat64) -> Result<Vec<Mat64>> {
        let mut image = psi.clone();
        for (mut column, mu) in image.columns_mut().into_iter().zip(&self.eigenvalues) {
            column *= *mu;
        }
        Ok(vec![image])
    }
}

/// Tells an observer how far the work is, and stops it when the observer says so.
struct Watch<'a> {
    observer: RefCell<&'a mut dyn Observer>,
    /// Products with the Gram matrix that are done.
    done: Cell<usize>,
}

impl Watch<'_> {
    /// `part` of `parts` of the current product are done. How many products there will be is not
    /// known: the total is that of the products so far.
    fn tick(&self, part: usize, parts: usize) -> Result<()> {
        let before = self.done.get() * parts;
        let event = Event::Progress { done: before + part, total: before + parts };
        if part == parts {
            self.done.set(self.done.get() + 1);
        }
        match self.observer.borrow_mut().observe(&event) {
            Control::Continue => Ok(()),
            Control::Stop => Err(Error::Interrupted { step: 0, checkpoint: None }),
        }
    }
}

/// The k leading eigenpairs of K/n, and its Frobenius norm.
fn solve<'a>(
    plan: Plan,
    kernel: &'a dyn Kernel,
    x: IndexedPoints<'a>,
    k: usize,
    watch: &Watch<'_>,
) -> Result<(PartialEigen, f64)> {
    let n = x.len();
    if plan == Plan::MatrixFree {
        let operator = SymmetricGram::new(kernel, x);
        let (rounds, square) = (operator.rounds(), Cell::new(0.0));
        let found = top_eigh_operator(n, k, |v| {
            let (mut image, sum) = operator.apply(v, |round| watch.tick(round, rounds))?;
            square.set(sum);
            image /= n as f64;
            Ok(image)
        })?;
        return Ok((found, square.get().sqrt() / n as f64));
    }
    let mut gram = symmetric_gram(kernel, x)?;
    expect_finite_f64("Gram matrix of the training points", gram.view())?;
    gram /= n as f64;
    let size = norm2(gram.iter().copied());
    let found = match plan {
        Plan::Whole => top_eigh(gram.view(), k)?,
        _ => top_eigh_operator(n, k, |v| {
            let image = matmul_f64(gram.view(), v)?;
            watch.tick(1, 1)?;
            Ok(image)
        })?,
    };
    Ok((found, size))
}

#[cfg(test)]
#[path = "kernel_pca_tests.rs"]
mod tests;
