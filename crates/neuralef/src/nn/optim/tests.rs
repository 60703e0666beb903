//! Every rule against its formula, and resuming bit for bit.

use super::super::parameters::{Role, TensorLayout};
use super::*;
use crate::spec::Sample;
use crate::spec::registry::assert_complete;
use rand::RngExt as _;

/// Two units, of 19 and of more than two chunks of numbers, drawn from [−1, 1).
fn draw(stream: u64) -> Parameters {
    let layout = |n: usize| {
        let role = Role::Weight { fan_in: 1 };
        vec![TensorLayout {
            name: "layers.0.weight".into(),
            shape: vec![n],
            offset: 0,
            role,
            flat: false,
        }]
    };
    let mut p = Parameters::zeros(vec![layout(19), layout(2 * CHUNK + 5)]);
    let mut rng = crate::rng::stream(5, "test", stream);
    p.units_mut().iter_mut().flatten().for_each(|v| *v = rng.random_range(-1.0f32..1.0));
    p
}

/// The rules by their formulas.
enum Rule {
    Adam { beta1: f64, beta2: f64, eps: f64, weight_decay: f64 },
    RmsProp { decay: f64, eps: f64 },
    Sgd { momentum: f64, nesterov: bool, weight_decay: f64 },
}

#[test]
fn every_rule_agrees_with_its_formula_in_double_precision() {
    let adam = |beta1, beta2, eps, weight_decay| Rule::Adam { beta1, beta2, eps, weight_decay };
    let sgd = |momentum, nesterov, weight_decay| Rule::Sgd { momentum, nesterov, weight_decay };
    for (text, rule) in [
        ("adam(lr=0.01)", adam(0.9, 0.999, 1e-8, 0.0)),
        ("adam(lr=0.01, beta1=0.5, beta2=0.9, eps=0.1)", adam(0.5, 0.9, 0.1, 0.0)),
        ("adamw(lr=0.01, weight_decay=0.3)", adam(0.9, 0.999, 1e-8, 0.3)),
        ("rmsprop(lr=0.01, decay=0.9, eps=0.01)", Rule::RmsProp { decay: 0.9, eps: 0.01 }),
        ("sgd(lr=0.01, momentum=0)", sgd(0.0, false, 0.0)),
        ("sgd(lr=0.01, momentum=0.8)", sgd(0.8, false, 0.0)),
        ("sgd(lr=0.01, momentum=0.8, nesterov=true)", sgd(0.8, true, 0.0)),
        ("sgd(lr=0.01, momentum=0.8, nesterov=true, weight_decay=0.3)", sgd(0.8, true, 0.3)),
        ("sgd(lr=0.01, momentum=0.8, weight_decay=0.3)", sgd(0.8, false, 0.3)),
    ] {
        let spec: OptimizerSpec = text.parse().unwrap();
        let mut parameters = draw(0);
        let mut exact: Vec<f64> = parameters.units()[0].iter().map(|v| f64::from(*v)).collect();
        let (mut first, mut second) = (vec![0.0; 19], vec![0.0; 19]);
        let mut optimizer = spec.build(&parameters).unwrap();
        for t in 1..=5 {
            let g = draw(t);
            optimizer.step(&mut parameters, &g, spec.learning_rate().unwrap()).unwrap();
            for i in 0..19 {
                let g = f64::from(g.units()[0][i]);
                match rule {
                    Rule::Adam { beta1, beta2, eps, weight_decay } => {
                        first[i] = beta1 * first[i] + (1.0 - beta1) * g;
                        second[i] = beta2 * second[i] + (1.0 - beta2) * g * g;
                        let m = first[i] / (1.0 - beta1.powi(t as i32));
                        let v: f64 = second[i] / (1.0 - beta2.powi(t as i32));
                        exact[i] -= 0.01 * weight_decay * exact[i];
                        exact[i] -= 0.01 * m / (v.sqrt() + eps);
                    }
                    Rule::RmsProp { decay, eps } => {
                        second[i] = decay * second[i] + (1.0 - decay) * g * g;
                        exact[i] -= 0.01 * g / (f64::sqrt(second[i]) + eps);
                    }
                    Rule::Sgd { momentum, nesterov, weight_decay } => {
                        let g = g + weight_decay * exact[i];
                        first[i] = momentum * first[i] + g;
                        exact[i] -=
                            0.01 * if nesterov { g + momentum * first[i] } else { first[i] };
                    }
                }
            }
        }
        for (got, exact) in parameters.units()[0].iter().zip(exact) {
            assert!((f64::from(*got) - exact).abs() < 5e-7, "{text}: {got} {exact}");
        }
    }
}

#[test]
fn a_restored_optimiser_continues_to_the_same_bits() {
    for text in ["adam", "adamw", "sgd(nesterov=true)"] {
        let spec: OptimizerSpec = text.parse().unwrap();
        let mut whole = draw(0);
        let mut optimizer = spec.build(&whole).unwrap();
        for t in 1..=3 {
            optimizer.step(&mut whole, &draw(t), 0.01).unwrap();
        }
        let mut resumed = whole.clone();
        let state = optimizer.state();
        assert_eq!(state.step, 3);
        let mut other = spec.build(&resumed).unwrap();
        other.restore(&state).unwrap();
        for t in 4..=6 {
            optimizer.step(&mut whole, &draw(t), 0.01).unwrap();
            other.step(&mut resumed, &draw(t), 0.01).unwrap();
        }
        assert_eq!(whole, resumed, "{text}");
        assert_eq!(optimizer.state(), other.state(), "{text}");
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut p = draw(0);
        let spec: OptimizerSpec = "adamw".parse().unwrap();
        pool.install(|| spec.build(&p).unwrap().step(&mut p, &draw(1), 0.1)).unwrap();
        p
    };
    assert_eq!(run(1), run(2));
}

#[test]
fn clipping_scales_to_the_norm_and_reports_what_is_not_finite() {
    let mut g = draw(1);
    let exact: f64 = g.units().iter().flatten().map(|v| f64::from(*v).powi(2)).sum();
    let norm = clip(&mut g, None).unwrap();
    assert!((norm - exact.sqrt()).abs() < 1e-9 * norm);
    assert_eq!(clip(&mut g, Some(2.0 * norm)).unwrap(), norm);
    assert_eq!(g, draw(1));
    clip(&mut g, Some(0.5)).unwrap();
    assert!((clip(&mut g, None).unwrap() - 0.5).abs() < 1e-6);
    g.units_mut()[1][77] = f32::NAN;
    assert!(clip(&mut g, Some(0.5)).unwrap().is_nan());
    g.units_mut()[1][77] = f32::INFINITY;
    assert_eq!(clip(&mut g, Some(0.5)).unwrap(), f64::INFINITY);
    assert!(clip(&mut g, Some(0.0)).is_err());
    assert!(clip(&mut g, Some(f64::NAN)).is_err());
}

#[test]
fn mismatches_and_bad_rates_are_errors() {
    let spec: OptimizerSpec = "adam".parse().unwrap();
    let (mut p, other) = (draw(0), Parameters::zeros(vec![]));
    let mut optimizer = spec.build(&p).unwrap();
    assert!(optimizer.step(&mut p, &other, 0.1).is_err());
    assert!(optimizer.step(&mut p, &draw(1), f64::NAN).is_err());
    assert!(optimizer.step(&mut p, &draw(1), -0.1).is_err());
    assert!(optimizer.restore(&OptimizerState::default()).is_err());
    let sgd: OptimizerSpec = "sgd".parse().unwrap();
    assert!(optimizer.restore(&sgd.build(&p).unwrap().state()).is_err());
    assert_eq!(p, draw(0));
}

#[test]
fn text_round_trips() {
    for text in [
        "adam(lr=0.001, beta1=0.9, beta2=0.999, eps=0.00000001)",
        "adamw(lr=0.002, beta1=0.9, beta2=0.99, eps=0.00000001, weight_decay=0)",
        "sgd(lr=0.01, momentum=0.9, nesterov=true, weight_decay=0)",
        "sgd(lr=0.01, momentum=0.9, nesterov=false, weight_decay=0.0005)",
    ] {
        let spec: OptimizerSpec = text.parse().unwrap();
        assert_eq!(spec.to_string(), text);
    }
    for bad in ["adam(lr=0)", "adam(beta1=1)", "sgd(momentum=-1)", "adan", "adam(nesterov=true)"] {
        assert!(bad.parse::<OptimizerSpec>().is_err(), "{bad}");
    }
}

#[test]
fn every_entry_builds_prints_and_parses() {
    assert_complete(&OPTIMIZERS, &[], Sample::Missing, |rule| rule.text());
}
