//! Budgets of memory: what a computation may take, and the error for what would take more.

use crate::error::{Error, Result};

const MEBIBYTE: u64 = 1 << 20;

/// The memory that a computation may take, a whole number of MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryBudget {
    mib: u64,
}

impl MemoryBudget {
    /// Of so many MiB.
    pub(crate) fn from_mib(mib: u64) -> Self {
        MemoryBudget { mib }
    }

    /// The budget in bytes, at most what 64 bits count.
    pub(crate) fn bytes(self) -> u64 {
        self.mib.saturating_mul(MEBIBYTE)
    }

    /// Whether `bytes`, rounded up to whole MiB, are within the budget.
    pub(crate) fn holds(self, bytes: u64) -> bool {
        bytes.div_ceil(MEBIBYTE) <= self.mib
    }

    /// Fails unless the budget holds the `bytes` that `what` needs.
    ///
    /// # Errors
    /// [`Error::MemoryBudget`].
    pub(crate) fn expect(self, what: impl FnOnce() -> String, bytes: u64) -> Result<()> {
        if self.holds(bytes) { Ok(()) } else { Err(self.exceeded(what(), bytes)) }
    }

    /// The error for `what`, which needs `bytes`.
    pub(crate) fn exceeded(self, what: impl Into<String>, bytes: u64) -> Error {
        Error::MemoryBudget {
            what: what.into(),
            needed_mib: bytes.div_ceil(MEBIBYTE),
            budget_mib: self.mib,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_holds_what_it_counts_in_whole_mebibytes() {
        let budget = MemoryBudget::from_mib(3);
        assert_eq!(budget.bytes(), 3 * MEBIBYTE);
        assert!(budget.holds(0) && budget.holds(3 * MEBIBYTE) && !budget.holds(3 * MEBIBYTE + 1));
        budget.expect(|| "a block".into(), 3 * MEBIBYTE).unwrap();
        let error = budget.expect(|| "a block".into(), 3 * MEBIBYTE + 1).unwrap_err().to_string();
        assert_eq!(error, "a block needs 4 MiB, the memory budget is 3 MiB");
        assert!(!MemoryBudget::from_mib(0).holds(1) && MemoryBudget::from_mib(0).holds(0));
        assert_eq!(MemoryBudget::from_mib(u64::MAX).bytes(), u64::MAX);
    }
}
