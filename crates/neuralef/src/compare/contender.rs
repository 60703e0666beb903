//! The contenders of a comparison: named settings of a fit, each with the values its paper gives.

use crate::error::{Error, Result};
use crate::fit::{FitSpec, ReadoutKind, Steps};
use crate::nn::Schedule;

/// What a contender gives more of when it is to become more accurate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ladder {
    /// Training steps, from 125, doubling.
    Steps,
    /// Landmarks, from 16 or k, doubling, up to the number of points.
    Landmarks,
    /// Random features, from 64, doubling.
    Features,
    /// Nothing: it is what it is.
    Fixed,
}

impl Ladder {
    /// `spec` on rung `rung` (from 0), or none beyond the last; `points` is the number of training
    /// points and `steps` the most training steps.
    pub fn rung(self, spec: &FitSpec, rung: u32, points: usize, steps: u64) -> Option<FitSpec> {
        let doubled = |first: u64| first.checked_shl(rung).filter(|v| v >> rung == first);
        let mut spec = spec.clone();
        match self {
            Ladder::Fixed => (rung == 0).then_some(spec),
            Ladder::Steps => {
                let wanted = doubled(125).filter(|s| *s <= steps)?;
                spec.steps = Steps::Exactly(wanted);
                Some(spec)
            }
            Ladder::Landmarks => {
                let first = 16.max(spec.n_components.next_power_of_two() as u64);
                let wanted = doubled(first).filter(|m| (*m as usize) < 2 * points)?;
                spec.method = format!("nystrom(landmarks={wanted})").into();
                Some(spec)
            }
            Ladder::Features => {
                let wanted =
                    doubled(64).filter(|m| *m <= 8192 && *m >= spec.n_components as u64)?;
                spec.method = format!("fourier(features={wanted})").into();
                Some(spec)
            }
        }
    }
}

/// A named way to approximate a kernel.
#[derive(Debug, Clone, Copy)]
pub struct Contender {
    /// As users write it.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// How it becomes more accurate.
    pub ladder: Ladder,
    settings: fn(&mut FitSpec),
}

impl Contender {
    /// `base` with this contender's settings.
    pub fn spec(&self, base: &FitSpec) -> FitSpec {
        let mut spec = base.clone();
        (self.settings)(&mut spec);
        spec
    }

    /// The contender called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the nearest name.
    pub fn named(name: &str) -> Result<&'static Self> {
        let names: Vec<&str> = CONTENDERS.iter().map(|c| c.name).collect();
        CONTENDERS
            .iter()
            .find(|c| c.name == name)
            .ok_or_else(|| Error::unknown("contender", name, &names))
    }
}

/// The objective `text`, with its outputs as they are.
fn raw(spec: &mut FitSpec, text: &str) {
    spec.objective = text.into();
    spec.readout = ReadoutKind::None;
}

/// The objective `text` with the Galerkin readout.
fn read_out(spec: &mut FitSpec, text: &str) {
    spec.objective = text.into();
    spec.readout = ReadoutKind::Galerkin;
}

/// Every contender. Networks, batch size, steps, optimiser and schedule are the comparison's, the
/// same for all that train; what a paper's method adds of its own (moving averages, nesting,
/// splitting) has the paper's value.
pub static CONTENDERS: &[Contender] = &[
    Contender {
        name: "kernel_pca",
        summary: "exact eigenpairs of the Gram matrix of all training points",
        ladder: Ladder::Fixed,
        settings: |spec| spec.method = "kernel_pca".into(),
    },
    Contender {
        name: "nystrom",
        summary: "Nyström with 1,000 landmarks, the eigenproblem over all points",
        ladder: Ladder::Landmarks,
        settings: |spec| spec.method = "nystrom(landmarks=1000)".into(),
    },
    Contender {
        name: "nystrom_landmarks",
        summary: "the eigenproblem of 1,000 uniform landmarks alone (Williams & Seeger 2001)",
        ladder: Ladder::Fixed,
        settings: |spec| {
            spec.method =
                "nystrom(landmarks=1000, selection=uniform, eigenproblem=landmarks)".into();
        },
    },
    Contender {
        name: "fourier",
        summary: "1,024 orthogonal random Fourier features, reduced to k (Rahimi & Recht 2007)",
        ladder: Ladder::Features,
        settings: |spec| spec.method = "fourier(features=1024)".into(),
    },
    Contender {
        name: "positive",
        summary: "1,024 orthogonal positive features (FAVOR+, Choromanski et al. 2021), reduced to k",
        ladder: Ladder::Fixed,
        settings: |spec| spec.method = "positive(features=1024)".into(),
    },
    Contender {
        name: "neuralef",
        summary: "NeuralEF (Deng et al. 2022) with the Galerkin readout",
        ladder: Ladder::Steps,
        settings: |spec| read_out(spec, "neuralef"),
    },
    Contender {
        name: "neuralef_raw",
        summary: "NeuralEF as published",
        ladder: Ladder::Steps,
        settings: |spec| raw(spec, "neuralef"),
    },
    Contender {
        name: "untrained",
        summary: "untrained networks with the Galerkin readout",
        ladder: Ladder::Fixed,
        settings: |spec| {
            spec.steps = Steps::Exactly(0);
            spec.readout = ReadoutKind::Galerkin;
        },
    },
    Contender {
        name: "spin",
        summary: "SpIN (Pfau et al. 2019, averages with β = 0.01) with the Galerkin readout",
        ladder: Ladder::Steps,
        settings: |spec| read_out(spec, "spin(beta=0.01)"),
    },
    Contender {
        name: "spin_raw",
        summary: "SpIN as published, averages with β = 0.01, read out by its Cholesky factor",
        ladder: Ladder::Steps,
        settings: |spec| raw(spec, "spin(beta=0.01)"),
    },
    Contender {
        name: "spin_paper",
        summary: "SpIN with its paper's RMSProp (rate 1e-5, decay 0.999) and batches of 128; the paper \
                  takes 150,000 steps",
        ladder: Ladder::Steps,
        settings: |spec| {
            raw(spec, "spin(beta=0.01)");
            spec.batch_size = 128;
            spec.schedule = Schedule::default();
            spec.optimizer = "rmsprop(lr=1e-5, decay=0.999)".into();
        },
    },
    Contender {
        name: "nested_lora",
        summary: "NestedLoRA (Ryu et al. 2024, sequential, split batches) with the Galerkin readout",
        ladder: Ladder::Steps,
        settings: |spec| read_out(spec, "nested_lora"),
    },
    Contender {
        name: "nested_lora_raw",
        summary: "NestedLoRA as published: sequential nesting, split batches",
        ladder: Ladder::Steps,
        settings: |spec| raw(spec, "nested_lora"),
    },
    Contender {
        name: "mu_eigengame",
        summary: "μ-EigenGame in function space (Gemp et al. 2022) with the Galerkin readout",
        ladder: Ladder::Steps,
        settings: |spec| read_out(spec, "mu_eigengame"),
    },
    Contender {
        name: "mu_eigengame_raw",
        summary: "μ-EigenGame in function space, its outputs as they are",
        ladder: Ladder::Steps,
        settings: |spec| raw(spec, "mu_eigengame"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_is_a_valid_spec_under_its_own_name() {
        let base = FitSpec::new("rbf(lengthscale=1)", 3).unwrap();
        for contender in CONTENDERS {
            contender.spec(&base).check().unwrap();
            assert_eq!(Contender::named(contender.name).unwrap().name, contender.name);
        }
        let error = Contender::named("nystorm").unwrap_err().to_string();
        assert!(error.contains("did you mean `nystrom`"), "{error}");
    }

    #[test]
    fn ladders_climb_and_end() {
        let base = FitSpec::new("rbf(lengthscale=1)", 20).unwrap();
        let climb = |ladder: Ladder| -> Vec<FitSpec> {
            (0..).map_while(|rung| ladder.rung(&base, rung, 100, 1000)).collect()
        };
        let steps: Vec<String> = climb(Ladder::Steps).iter().map(|s| s.steps.to_string()).collect();
        assert_eq!(steps, ["125", "250", "500", "1000"]);
        let landmarks = climb(Ladder::Landmarks);
        // All twenty pairs from the first rung on.
        assert_eq!((landmarks.len(), landmarks[0].n_components), (3, 20));
        assert_eq!(landmarks[0].method.to_string(), "nystrom(landmarks=32)");
        assert_eq!(landmarks[2].method.to_string(), "nystrom(landmarks=128)");
        assert_eq!((climb(Ladder::Features).len(), climb(Ladder::Fixed).len()), (8, 1));
    }
}
