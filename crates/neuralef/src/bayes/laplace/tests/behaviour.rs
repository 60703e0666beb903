//! What users meet: extremes, files, threads, tuning, bad input.

use ndarray::s;

use super::{Case, SOURCES, convolutional};
use crate::Error;
use crate::bayes::Predictive;
use crate::bayes::laplace::{Criterion, Laplace, LaplaceSpec, SourceSpec, Targets};
use crate::data::Standardizer;
use crate::linalg::eigh;
use crate::matrix::{Mat, Mat64};
use crate::persist::Archive;
use crate::train::{Control, Event, Silent};

/// Nothing in the file of a posterior makes reading it panic, or take memory that the file has not.
#[test]
fn damaged_files_never_panic() {
    let case = Case::small();
    let path = case.folder.path().join("posterior");
    for source in ["last_layer", "kfac", "ella(components=3, landmarks=20)"] {
        case.fit(source).save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(Laplace::from_bytes(&bytes).is_ok());
        for at in (0..bytes.len()).step_by(37) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x15;
            let _ = Laplace::from_bytes(&damaged).map(|l| l.outputs(case.x.view()));
            assert!(Laplace::from_bytes(&bytes[..at]).is_err());
        }
        // Headers that say something else than the tensors.
        let archive = Archive::from_bytes(&bytes).unwrap();
        for (key, value) in [
            ("n_features", serde_json::json!(1_000_000)),
            ("outputs", serde_json::json!(1)),
            ("n_samples", serde_json::json!(0)),
            ("loss", serde_json::json!(-1.0)),
            ("prior_precision", serde_json::json!(0.0)),
            ("scale", serde_json::json!(1e300)),
            ("source", serde_json::json!("random(components=2)")),
            ("network", serde_json::json!("trained(of=/etc/hostname)")),
        ] {
            let mut other = Archive::from_bytes(&bytes).unwrap();
            other.header[key] = value;
            let found = Laplace::from_bytes(&other.to_bytes().unwrap());
            assert!(matches!(found, Err(Error::ModelFile { .. })), "{source} {key}");
        }
        assert_eq!(archive.kind, Laplace::KIND);
    }
}

/// Covariances are positive semi-definite and probabilities are finite, however far the prior precision
/// is from anything sensible.
#[test]
fn no_prior_precision_breaks_a_posterior() {
    let case = Case::small();
    for source in SOURCES {
        let mut laplace = case.fit(source);
        for delta in [1e-8, 1e-4, 1.0, 1e4, 1e8] {
            laplace.set_prior_precision(delta).unwrap();
            assert!(laplace.log_marginal_likelihood().is_finite(), "{source} {delta}");
            let outputs = laplace.outputs(case.x.view()).unwrap();
            for covariance in outputs.covariance.outer_iter() {
                let values = eigh(covariance).unwrap().0;
                assert!(values[2] >= -1e-12 * values[0], "{source} {delta}: {values:?}");
            }
            for predictive in [
                Predictive::Probit,
                Predictive::MeanField,
                Predictive::LaplaceBridge,
                Predictive::MonteCarlo { samples: 10 },
            ] {
                let p = outputs.probabilities(predictive, 0).unwrap();
                assert!(p.iter().all(|p| p.is_finite()), "{source} {delta} {predictive}");
            }
        }
    }
}

#[test]
fn saved_posteriors_give_the_same_bits_and_need_no_other_file() {
    let case = Case::small();
    let preprocessing = Standardizer::new(vec![0.1, -0.2], vec![1.5, 0.5]).unwrap();
    for source in SOURCES.into_iter().chain(["map"]) {
        let spec = LaplaceSpec {
            preprocessing: Some(preprocessing.clone()),
            ..LaplaceSpec::new(source).unwrap()
        };
        let fitted = spec.fit(&case.trained(), &case.data(), &case.targets(), &mut Silent).unwrap();
        let path = case.folder.path().join("posterior");
        fitted.save(&path).unwrap();
        let hidden = case.folder.path().join("away");
        std::fs::rename(&case.file, &hidden).unwrap();
        let loaded = Laplace::load(&path).unwrap();
        std::fs::rename(&hidden, &case.file).unwrap();
        assert_eq!(loaded.info(), fitted.info());
        let (a, b) =
            (fitted.outputs(case.x.view()).unwrap(), loaded.outputs(case.x.view()).unwrap());
        assert_eq!(a, b, "{source}");
        // Nor does a point depend on its company.
        let alone = loaded.outputs(case.x.slice(s![7..8, ..])).unwrap();
        assert_eq!(
            alone.covariance.slice(s![0, .., ..]),
            a.covariance.slice(s![7, .., ..]),
            "{source}"
        );
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let case = convolutional(20);
    for source in ["ella(components=4, landmarks=10)", "kfac", "diag", "last_layer"] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| case.fit(source).outputs(case.x.view()).unwrap())
        };
        assert_eq!(run(1), run(3), "{source}");
    }
}

/// The cost is looked at anew, from the outputs at each prior precision.
#[test]
fn tuning_finds_the_best_of_its_grid() {
    let case = Case::small();
    let mut laplace = case.fit("last_layer");
    let points = laplace.features(case.x.view()).unwrap();
    let nll = |laplace: &Laplace| {
        let p =
            laplace.outputs(case.x.view()).unwrap().probabilities(Predictive::Probit, 0).unwrap();
        crate::calibration::nll(p.view(), &case.labels).unwrap()
    };
    let before = nll(&laplace);
    let found =
        laplace.tune(&points, &case.targets(), Criterion::Nll, false, Predictive::Probit).unwrap();
    assert!((found.before - before).abs() < 1e-12 && (found.after - nll(&laplace)).abs() < 1e-12);
    let best = laplace.prior_precision();
    for i in -8..=8 {
        laplace.set_prior_precision(10f64.powi(i)).unwrap();
        assert!(nll(&laplace) >= found.after - 1e-9, "{i}");
    }
    laplace.set_prior_precision(best).unwrap();
    let both =
        laplace.tune(&points, &case.targets(), Criterion::Nll, true, Predictive::Probit).unwrap();
    assert!(both.after <= found.after + 1e-9 && both.scale != 1.0);
    let ece = laplace
        .tune(&points, &case.targets(), Criterion::Ece, true, Predictive::MeanField)
        .unwrap();
    assert!(ece.after <= ece.before + 1e-12);
}

#[test]
fn bad_input_is_named() {
    let case = Case::small();
    let fit = |spec: LaplaceSpec, targets: &Targets| {
        spec.fit(&case.trained(), &case.data(), targets, &mut Silent).err().unwrap().to_string()
    };
    let spec = |source: &str| LaplaceSpec::new(source).unwrap();
    for (found, part) in [
        (fit(spec("map"), &Targets::Labels(vec![0; 59])), "60 points"),
        (fit(spec("map"), &Targets::Labels(vec![3; 60])), "classes from 0 to 2"),
        (fit(spec("map"), &Targets::Values(Mat64::zeros((60, 2)))), "60 × 3"),
        (
            fit(LaplaceSpec { temperature: 0.0, ..spec("map") }, &case.targets()),
            "temperature: expected a positive",
        ),
        (
            fit(LaplaceSpec { noise_variance: Some(1.0), ..spec("map") }, &case.targets()),
            "noise_variance",
        ),
        (
            fit(LaplaceSpec { prior_precision: Some(f64::NAN), ..spec("diag") }, &case.targets()),
            "prior_precision",
        ),
        (fit(spec("ella(components=50, landmarks=60)"), &case.targets()), "rank"),
        (fit(spec("ella(components=61, landmarks=61)"), &case.targets()), "number of points"),
        (fit(LaplaceSpec { memory_budget: 0, ..spec("ella") }, &case.targets()), "memory budget"),
        (fit(spec("neuralef(network=heads(hiden=[2]))"), &case.targets()), "hidden"),
    ] {
        assert!(found.contains(part), "{found}");
    }
    for text in [
        "ellla",
        "ella(components=0)",
        "ella(landmarks=3)",
        "last_layer(structure=half)",
        "neuralef(steps=some)",
        "neuralef(model=a.nef, components=3)",
        "kfac(x=1)",
    ] {
        assert!(LaplaceSpec::new(text).is_err(), "{text}");
    }
    for source in SOURCES {
        let again: SourceSpec = spec(source).source.to_string().parse().unwrap();
        assert_eq!(again, spec(source).source);
    }
    let mut laplace = case.fit("last_layer");
    assert!(laplace.set_prior_precision(-1.0).is_err());
    assert!(matches!(laplace.outputs(Mat::zeros((2, 3)).view()), Err(Error::Shape { .. })));
    let nan = Mat::from_elem((1, 2), f32::NAN);
    assert!(matches!(laplace.outputs(nan.view()), Err(Error::NonFinite { .. })));
    assert!(matches!(case.fit("kfac").features(case.x.view()), Err(Error::Unsupported { .. })));
    let other = case.fit("random(components=2)").features(case.x.view()).unwrap();
    assert!(matches!(laplace.outputs_of(&other), Err(Error::Shape { .. })));
    // Outputs without any uncertainty.
    let map = case.fit("map").outputs(case.x.view()).unwrap();
    assert!(map.covariance.iter().all(|v| *v == 0.0));
    let mut stop = |event: &Event<'_>| match event {
        Event::Progress { .. } => Control::Stop,
        _ => Control::Continue,
    };
    let stopped = spec("diag").fit(&case.trained(), &case.data(), &case.targets(), &mut stop);
    assert!(matches!(stopped, Err(Error::Interrupted { .. })));
}
