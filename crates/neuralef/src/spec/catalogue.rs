//! Every name that can be written in a spec, with its parameters: what `--help` and docs are made of.

use serde::Serialize;

use crate::bayes::trajectory::AUGMENTATIONS;
use crate::bayes::{PREDICTIVES, SOURCES};
use crate::compare::{CONTENDERS, Contender};
use crate::data::SYNTHETIC;
use crate::kernel::KERNELS;
use crate::method::METHODS;
use crate::nn::{NETWORKS, OPTIMIZERS, SCHEDULES};
use crate::objective::OBJECTIVES;
use crate::spec::parameter::Parameter;
use crate::spec::registry::{Entry, Registry};

/// The entries of one registry.
#[derive(Debug, Clone, Serialize)]
pub struct Section {
    /// `kernels`, `networks`, …
    pub kind: &'static str,
    /// In registry order.
    pub entries: Vec<Item>,
}

/// One name.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// As written in a spec.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Its parameters.
    pub parameters: &'static [Parameter],
}

/// All registries of the crate.
pub fn catalogue() -> Vec<Section> {
    vec![
        section("kernels", &KERNELS),
        section("networks", &NETWORKS),
        section("objectives", &OBJECTIVES),
        section("optimizers", &OPTIMIZERS),
        section("schedules", &SCHEDULES),
        section("methods", &METHODS),
        section("data", &SYNTHETIC),
        section("sources", &SOURCES),
        section("predictives", &PREDICTIVES),
        section("augmentations", &AUGMENTATIONS),
        Section { kind: "contenders", entries: CONTENDERS.iter().map(contender).collect() },
    ]
}

fn contender(c: &Contender) -> Item {
    Item { name: c.name, summary: c.summary, parameters: &[] }
}

fn section<T>(kind: &'static str, registry: &Registry<T>) -> Section {
    let item = |e: &Entry<T>| Item { name: e.name, summary: e.summary, parameters: e.parameters };
    Section { kind, entries: registry.entries.iter().map(item).collect() }
}
