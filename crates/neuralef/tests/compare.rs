//! Comparisons: the same ground for all, the truth where it is known, failures as results.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use neuralef::compare::{Comparison, Subject, Target};
use neuralef::fit::Steps;
use neuralef::train::{Control, Event, Silent};
use neuralef::{Dataset, FitSpec};

fn comparison(subject: Subject, contenders: &[&str]) -> Comparison<'static> {
    let base = FitSpec {
        network: "mlp(hidden=[16, 16], activation=sin_cos)".parse().unwrap(),
        steps: Steps::Exactly(60),
        max_steps: 250,
        ..FitSpec::new("rbf(lengthscale=median)", 4).unwrap()
    };
    Comparison {
        subject,
        contenders: contenders.iter().map(|c| c.to_string()).collect(),
        base,
        seeds: 2,
        seconds: None,
        target: None,
        meter: None,
    }
}

fn cases(names: &[&str], points: &[usize]) -> Subject {
    let names = names.iter().map(|n| n.to_string()).collect();
    Subject::Cases { names, points: points.to_vec() }
}

#[test]
fn exact_methods_agree_with_the_sample_and_approach_the_truth() {
    let mut wanted = comparison(cases(&["polynomial"], &[64, 576]), &["kernel_pca", "untrained"]);
    wanted.seeds = 10;
    let report = wanted.run(&mut Silent).unwrap();
    assert_eq!(report.trials.len(), 40);
    let of = |name: &str, n: usize| {
        report.summaries.iter().find(|s| s.contender == name && s.n == n).unwrap()
    };
    for n in [64, 576] {
        let exact = of("kernel_pca", n);
        assert_eq!((exact.seeds, exact.sample.cosines.len()), (10, 5));
        assert!(exact.sample.least_cosine.unwrap() > 1.0 - 1e-6);
        assert!(exact.sample.eigenvalue_errors.iter().all(|e| e.mean < 1e-9));
        // All five functions of a kernel of rank five.
        assert!(of("untrained", n).sample.least_cosine.unwrap() > 0.999);
    }
    // The error of the sample, 1 − |cos|, falls like 1/N: by 9, here the mean of fifty.
    let off = |n: usize| {
        let cosines = &of("kernel_pca", n).truth.cosines;
        cosines.iter().map(|c| 1.0 - c.mean).sum::<f64>() / cosines.len() as f64
    };
    let ratio = off(64) / off(576);
    assert!((4.5..18.0).contains(&ratio), "{ratio}");
    assert_eq!(report.truths[0].functions.len(), 5);
    let trial = &report.trials[0];
    let along: f64 =
        trial.curves[0].iter().zip(&report.truths[0].functions[0]).map(|(a, b)| a * b).sum();
    assert!(along > 0.0);
}

#[test]
fn contenders_see_the_same_points_and_seeds_differ() {
    let subject = cases(&["rbf-uniform"], &[64]);
    let run = || comparison(subject.clone(), &["kernel_pca", "nystrom"]).run(&mut Silent).unwrap();
    let (report, again) = (run(), run());
    // Nyström with more landmarks than points is exact on the same points.
    for pair in report.trials.chunks(2) {
        assert_eq!(pair[0].seed, pair[1].seed);
        for (a, b) in pair[0].eigenvalues.iter().zip(&pair[1].eigenvalues).take(5) {
            assert!((a / b - 1.0).abs() < 1e-8, "{a} {b}");
        }
    }
    assert!((report.trials[0].eigenvalues[0] - report.trials[2].eigenvalues[0]).abs() > 1e-6);
    assert_eq!(report.trials[3].eigenvalues, again.trials[3].eigenvalues);
}

#[test]
fn a_contender_that_cannot_serve_is_a_result_that_says_why() {
    let subject = cases(&["polynomial"], &[64]);
    let report = comparison(subject, &["fourier", "untrained"]).run(&mut Silent).unwrap();
    let row = &report.summaries[0];
    assert_eq!((row.contender.as_str(), row.seeds), ("fourier", 0));
    assert!(row.errors[0].contains("polynomial"), "{:?}", row.errors);
    assert_eq!(report.summaries[1].seeds, 2);
}

#[test]
fn data_are_split_and_the_truth_is_what_all_points_have() {
    let data = Dataset::open("two_moons(n=200)", 0).unwrap();
    let report = comparison(Subject::Data(data), &["kernel_pca"]).run(&mut Silent).unwrap();
    let row = &report.summaries[0];
    // Of 150 that are no test points a tenth is held out.
    assert_eq!(row.n, 135);
    assert!(row.sample.least_cosine.unwrap() > 1.0 - 1e-6, "{row:?}");
    assert!(row.sample.eigenvalue_errors.iter().all(|e| e.mean < 1e-9), "{row:?}");
    assert!(row.truth.least_cosine.unwrap() > 0.95, "{row:?}");
    assert!(row.gram_error.unwrap().mean < 0.5);
}

#[test]
fn ladders_are_climbed_to_the_target_and_no_further() {
    let mut wanted = comparison(cases(&["rbf-uniform"], &[512]), &["nystrom", "neuralef_raw"]);
    wanted.target = Some(Target { cosine: 0.99, first: 2 });
    wanted.seeds = 1;
    let report = wanted.run(&mut Silent).unwrap();
    let nystrom = &report.reaches[0];
    let last = nystrom.rungs.last().unwrap();
    assert!(last.0 >= 0.99 && nystrom.seconds == Some(last.1));
    assert!(nystrom.rungs[..nystrom.rungs.len() - 1].iter().all(|r| r.0 < 0.99));
    assert_eq!((report.reaches[1].seconds, report.reaches[1].rungs.len()), (None, 2));
}

#[test]
fn bad_settings_are_named_and_a_comparison_can_be_stopped() {
    let subject = cases(&["rbf-uniform"], &[64]);
    let message = |edit: fn(&mut Comparison<'static>)| {
        let mut wanted = comparison(subject.clone(), &["nystrom"]);
        edit(&mut wanted);
        wanted.run(&mut Silent).unwrap_err().to_string()
    };
    assert!(message(|c| c.seeds = 0).starts_with("seeds"));
    assert!(message(|c| c.contenders = vec!["spinn".into()]).contains("did you mean `spin`"));
    assert!(message(|c| c.contenders.clear()).starts_with("contenders"));
    assert!(message(|c| c.seconds = Some(-1.0)).starts_with("seconds"));
    assert!(message(|c| c.target = Some(Target { cosine: 1.5, first: 1 })).starts_with("target"));
    assert!(
        message(|c| c.subject = cases(&["rbf-uniforms"], &[64]))
            .contains("did you mean `rbf-uniform`")
    );
    let mut seen = 0;
    let mut stopper = |event: &Event<'_>| {
        seen += usize::from(matches!(event, Event::Trial { .. }));
        if seen == 2 { Control::Stop } else { Control::Continue }
    };
    let stopped = comparison(subject.clone(), &["nystrom", "untrained"]).run(&mut stopper).unwrap();
    assert_eq!((stopped.trials.len(), stopped.planned, stopped.summaries.len()), (1, 4, 1));
    // A function that is missing is not right.
    assert!(message(|c| c.target = Some(Target { cosine: 0.9, first: 40 })).starts_with("first"));
    assert!(message(|c| c.contenders = vec!["nystrom".into(), "nystrom".into()]).contains("twice"));
    assert!(message(|c| c.subject = cases(&["brownian"], &[64, 0])).contains("at least 1"));
}

#[test]
fn a_kernel_that_leaves_single_precision_is_a_result_not_the_end() {
    // exp(xᵀx') of a far point is beyond f32: positive features cannot hold it, the oracle can.
    let mut x = ndarray::Array2::from_shape_fn((100, 1), |(i, _)| i as f32 / 100.0);
    x[[50, 0]] = 10.5;
    let data = Dataset::from_array("outlier", x).unwrap();
    let mut wanted = comparison(Subject::Data(data), &["kernel_pca", "positive"]);
    wanted.base.operator = Some("softmax(gamma=1)".parse().unwrap());
    wanted.seeds = 8;
    let report = wanted.run(&mut Silent).unwrap();
    assert_eq!(report.trials.len(), 16);
}

#[test]
fn a_budget_of_seconds_is_no_licence_after_a_failed_pilot() {
    // One linear function of one input has no four independent outputs.
    let mut wanted = comparison(cases(&["brownian"], &[64]), &["spin_raw"]);
    wanted.base.network = "mlp(hidden=[])".parse().unwrap();
    (wanted.seconds, wanted.seeds) = (Some(0.2), 1);
    let report = wanted.run(&mut Silent).unwrap();
    assert!(report.trials[0].error.as_ref().unwrap().contains("linearly dependent"));
}

#[test]
fn a_budget_of_seconds_sets_the_steps() {
    let mut wanted = comparison(cases(&["rbf-uniform"], &[512]), &["neuralef_raw"]);
    (wanted.seconds, wanted.seeds) = (Some(0.2), 1);
    let trial = &wanted.run(&mut Silent).unwrap().trials[0];
    assert!(trial.steps > 0 && trial.steps != 60, "{}", trial.steps);
}
