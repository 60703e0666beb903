//! The list of all objectives. A new objective is a file with an entry, and a line here.

use std::sync::Arc;

use super::Objective;
use crate::spec::{Registered, Registry};

/// Every objective, by name.
pub static OBJECTIVES: Registry<Arc<dyn Objective>> = Registry {
    kind: "objective",
    entries: &[
        super::neuralef::ENTRY,
        super::mu_eigengame::ENTRY,
        super::nested_lora::ENTRY,
        super::spin::ENTRY,
        super::eigengame_pca::ENTRY,
    ],
};

impl Registered for dyn Objective {
    const AS_WRITTEN: bool = true;

    fn registry() -> &'static Registry<Arc<Self>> {
        &OBJECTIVES
    }

    fn text_form(&self) -> String {
        self.text()
    }
}
