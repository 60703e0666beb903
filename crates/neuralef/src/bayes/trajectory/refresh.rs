//! Statistics of batch normalisation for weights that no step of training led to.

use rand::seq::SliceRandom as _;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::{Network, Tape};
use crate::rng;

/// Gives `network` the means over batches of `data` of the batch statistics, with its weights as they
/// are: averages and samples of weights need that (Izmailov et al. 2018, section 3.2). Batches are of
/// one size, in an order drawn from `seed`; points that fill no batch are left out. One forward pass
/// over the data; nothing for networks without batch normalisation.
///
/// # Errors
/// [`Error::InvalidParameter`] for an empty batch; what reading the data and the network report.
pub fn refresh(
    network: &mut dyn Network,
    data: &Dataset,
    batch_size: usize,
    seed: u64,
) -> Result<()> {
    if batch_size == 0 {
        return Err(Error::parameter("batch_size", "at least 1", batch_size));
    }
    if network.parameters().statistics().is_empty() {
        return Ok(());
    }
    network.freeze(false);
    let mut order: Vec<usize> = (0..data.len()).collect();
    order.shuffle(&mut rng::stream(seed, "refresh", 0));
    let mut tape = Tape::default();
    for (i, batch) in order.chunks_exact(batch_size.min(data.len())).enumerate() {
        network.forward(data.rows(batch)?.view(), Some(&mut tape))?;
        network.update_running_statistics(&tape, 1.0 / (i + 1) as f64);
    }
    Ok(())
}
