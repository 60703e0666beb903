//! A model in a file: everything that a fit found out, and everything that it took to fit it.
//!
//! Asserted: what is read back gives the same features to the bit, one row at a time as well; a file
//! that was cut short is refused; the spec in the file fits the same file again, byte for byte.
//! `cargo run --release -p neuralef --example save_load`

use ndarray::Axis;
use neuralef::{Dataset, Error, FitSpec, Model, Result, fit};

fn main() -> Result<()> {
    let data = Dataset::open("two_moons(n=1000, noise=0.1)", 0)?;
    let model = fit(&data, &FitSpec::new("rbf(lengthscale=0.5)", 5)?)?;

    let path = std::env::temp_dir().join("neuralef_save_load.safetensors");
    model.save(&path)?; // The whole file or none of it.
    let (loaded, bytes) = (Model::load(&path), std::fs::read(&path));
    std::fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
    let (loaded, bytes) = (loaded?, bytes.map_err(|e| Error::io(&path, e))?);

    let info = loaded.info();
    println!("{} bytes hold, among other things,", bytes.len());
    println!("  data         {}, {} × {}", info.data, info.n_samples, info.n_features);
    println!("  kernel       {}", info.kernel.as_deref().unwrap_or("none"));
    println!("  networks     {}", info.spec.network);
    println!("  steps taken  {}", info.record.steps);
    for pair in &loaded.certificate().pairs {
        println!("  eigenvalue   {:.4}, residual {:.0e}", pair.eigenvalue, pair.residual);
    }

    // New points, all at once and one by one.
    let x = Dataset::open("two_moons(n=300, noise=0.1)", 1)?.range(0..300)?;
    let features = model.transform(x.view())?;
    assert_eq!(loaded.transform(x.view())?, features);
    for (row, expected) in x.axis_chunks_iter(Axis(0), 1).zip(features.axis_chunks_iter(Axis(0), 1))
    {
        assert_eq!(loaded.transform(row)?, expected);
    }
    println!("read back: the same {} × {} features, to the bit", x.nrows(), features.ncols());

    let cut = Model::from_bytes(&bytes[..bytes.len() - 1]).err();
    println!("cut short: {}", cut.as_ref().map(Error::to_string).unwrap_or_default());
    assert!(matches!(cut, Some(Error::ModelFile { .. })));

    let again = fit(&data, &info.spec)?;
    assert_eq!(again.to_bytes()?, bytes);
    println!("fitted again by its own spec: the same {} bytes", bytes.len());
    Ok(())
}
