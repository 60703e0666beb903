//! The Nyström method as an entry of the registry: landmarks chosen from the training points.

use std::sync::Arc;

use super::all_points::AllPoints;
use super::landmark_choice::{self, Selection};
use super::landmark_points::LandmarkPoints;
use super::{EXTENDS, Fitted, Method, MethodRecord, Nystrom, Run};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::{FitSpec, Problem};
use crate::kernel::Kernel;
use crate::persist::Archive;
use crate::spec::{Choice, Domain, Entry, Parameter};

/// Registry entry: `nystrom(landmarks=auto, selection=auto, eigenproblem=all_points)`.
pub(super) const ENTRY: Entry<Arc<dyn Method>> = Entry {
    name: "nystrom",
    summary: "the kernel as landmarks see it, its eigenpairs over all points (Williams & Seeger 2001)",
    parameters: &[
        Parameter::new(
            "landmarks",
            Domain::Integer(1, 1_000_000_000),
            "auto",
            "how many; at least the number of training points: all of them; auto: as many as leave little \
             beside the last eigenvalue, at most 260 + 4·n_components (2 for each beyond 100)",
        )
        .or(&["auto"]),
        Parameter::new(
            "selection",
            Domain::choice::<Selection>(),
            "auto",
            "rpcholesky: randomly pivoted Cholesky; uniform; kmeans: k-means++; auto: rpcholesky, and for \
             eigenproblem=landmarks uniform",
        ),
        Parameter::optional(
            "eigenproblem",
            Domain::choice::<Eigenproblem>(),
            "all_points",
            "all_points, or landmarks: that of the landmarks' own Gram matrix, weaker, for comparison",
        ),
        Parameter::optional(
            "given",
            Domain::Path,
            "chosen among the training points",
            "a file with the landmarks as rows, in place of landmarks and selection",
        ),
    ],
    build: |args| {
        let landmarks = match args.word("landmarks") {
            Some(_) => None,
            None => Some(args.size("landmarks")?),
        };
        let eigenproblem = match args.has("eigenproblem") {
            true => args.choice("eigenproblem")?,
            false => Eigenproblem::AllPoints,
        };
        let given = args.has("given").then(|| args.path("given").map(String::from)).transpose()?;
        if given.is_some() && eigenproblem == Eigenproblem::Landmarks {
            return Err(args.fault("given", "is for eigenproblem=all_points"));
        }
        let selection = args.choice("selection")?;
        Ok(Arc::new(NystromMethod { landmarks, selection, eigenproblem, given }))
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Eigenproblem {
    AllPoints,
    Landmarks,
}

impl Choice for Eigenproblem {
    const KIND: &'static str = "eigenproblem";
    const ALL: &'static [(&'static str, Self)] =
        &[("all_points", Eigenproblem::AllPoints), ("landmarks", Eigenproblem::Landmarks)];
}

/// What to say when only `usable` of the components asked for are.
pub(super) fn few_directions(usable: usize, components: usize) -> String {
    format!(
        "only {usable} of {components} directions are usable: the kernel's further eigenvalues on \
         these points are zero to rounding"
    )
}

/// Reads back what [`FeatureMap::save`] of a [`Nystrom`] stored.
pub(crate) fn load(archive: &Archive, kernel: Option<Arc<dyn Kernel>>) -> Result<Nystrom> {
    let Some(kernel) = kernel else {
        let message =
            "it needs the kernel that it was fitted with, which is in the hands of a program";
        return Err(archive.fault(message));
    };
    let eigenvalues = archive.f64_vector("eigenvalues")?;
    let landmarks = LandmarkPoints::load(archive, &*kernel)?;
    let shape = (landmarks.x.nrows(), eigenvalues.len());
    let projection = archive.f64_matrix("projection", shape)?;
    Nystrom::from_landmarks(kernel, landmarks, projection, eigenvalues)
}

/// See the [module](self).
#[derive(Debug)]
struct NystromMethod {
    landmarks: Option<usize>,
    selection: Selection,
    eigenproblem: Eigenproblem,
    /// The file of the landmarks.
    given: Option<String>,
}

impl NystromMethod {
    /// The eigenproblem of the landmarks' own Gram matrix.
    fn of_landmarks(&self, problem: &Problem, run: &mut Run<'_>) -> Result<Fitted> {
        let kernel = problem.expect_kernel("nystrom", EXTENDS)?;
        let train = problem.split.train.len();
        let m = self.landmarks.unwrap_or(landmark_choice::WITHOUT_LIMIT).min(train);
        let what = || format!("the Gram matrix of {m} landmarks");
        problem.memory().expect(what, 8 * m as u64 * m as u64)?;
        let components = problem.spec.n_components;
        expect_landmarks(components, m)?;
        let fitted = run.timed(|_| {
            let (rows, weights) = landmark_choice::weighted(problem, self.selection, m)?;
            let landmarks = LandmarkPoints::new(&**kernel, problem.batch(&rows)?);
            // Points that coincide make fewer landmarks.
            let components = components.min(rows.len());
            let map = Nystrom::fit_landmarks(kernel.clone(), landmarks, &weights, components)?;
            Ok::<_, Error>((rows.len(), map))
        });
        let (m, map) = fitted?;
        let record = record(m, &map, components);
        // Not the landmarks: for their own operator the pairs are exact whatever they are worth.
        let sample = problem.training_sample(problem.spec.readout_points);
        Ok(Fitted::new(Box::new(map), sample, m, record))
    }
}

/// How a fit by m landmarks went.
fn record(m: usize, map: &Nystrom, components: usize) -> MethodRecord {
    let mut record = MethodRecord { landmarks: Some(m), ..MethodRecord::default() };
    if map.components() < components {
        record.warnings.push(few_directions(map.components(), components));
    }
    record
}

fn expect_landmarks(components: usize, m: usize) -> Result<()> {
    if components <= m {
        return Ok(());
    }
    let expected = format!("at most the number of landmarks, {m}");
    Err(Error::parameter("n_components", expected, components))
}

impl Method for NystromMethod {
    fn fit(&self, problem: &Problem, run: &mut Run<'_>) -> Result<Fitted> {
        problem.expect_kernel("nystrom", EXTENDS)?;
        run.begin("nystrom", "nystrom")?;
        problem.expect_points_for_components()?;
        if self.eigenproblem == Eigenproblem::Landmarks {
            return self.of_landmarks(problem, run);
        }
        let components = problem.spec.n_components;
        if let Some(m) = self.landmarks.filter(|_| self.given.is_none()) {
            expect_landmarks(components, m.min(problem.split.train.len()))?;
        }
        let solution = run.timed(|run| {
            let landmarks = landmark_choice::low_rank(
                problem,
                self.selection,
                self.landmarks,
                self.given.as_deref(),
            )?;
            AllPoints::solve(problem, landmarks, run)
        })?;
        let mut record = record(solution.landmarks(), &solution.map, components);
        record.remainder = Some(solution.remainder);
        let points = solution.points;
        let sample = problem.split.train.clone();
        let measured = solution.measured;
        Ok(Fitted { measured, ..Fitted::new(Box::new(solution.map), sample, points, record) })
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
        let landmarks = self.landmarks.map_or_else(|| "auto".to_string(), |m| m.to_string());
        let selection = self.selection.name();
        let mut values: Vec<(&str, &dyn std::fmt::Display)> =
            vec![("landmarks", &landmarks), ("selection", &selection)];
        let eigenproblem = self.eigenproblem.name();
        if self.eigenproblem == Eigenproblem::Landmarks {
            values.push(("eigenproblem", &eigenproblem));
        }
        let given = self.given.as_deref().map(crate::spec::text::path);
        if let Some(given) = &given {
            values.push(("given", given));
        }
        ENTRY.text(&values)
    }
}
