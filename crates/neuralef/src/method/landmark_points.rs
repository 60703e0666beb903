//! The landmarks of a Nyström approximation, with row numbers where the kernel goes by them; their files.

use ndarray::s;

use crate::error::Result;
use crate::kernel::{IndexedPoints, Kernel};
use crate::matrix::Mat;
use crate::operator::Batch;
use crate::persist::Archive;

/// The last whole number up to which single precision has all of them.
const EXACT: usize = 1 << 24;

/// m landmarks.
#[derive(Debug, Clone)]
pub(super) struct LandmarkPoints {
    /// m × d.
    pub(super) x: Mat,
    /// Their row numbers in the data of the fit, for a kernel that goes by them.
    pub(super) rows: Option<Vec<usize>>,
}

impl From<Mat> for LandmarkPoints {
    fn from(x: Mat) -> Self {
        LandmarkPoints { x, rows: None }
    }
}

impl LandmarkPoints {
    /// Points of a fit's data as landmarks for `kernel`.
    pub(super) fn new(kernel: &dyn Kernel, batch: Batch) -> Self {
        LandmarkPoints { x: batch.x, rows: kernel.by_index().map(|_| batch.indices) }
    }

    pub(super) fn points(&self) -> IndexedPoints<'_> {
        IndexedPoints { x: self.x.view(), rows: self.rows.as_deref() }
    }

    /// Puts them into `archive`, as files of format version 1 have them: row numbers are one more
    /// column, and a tensor of their own where single precision does not hold them.
    ///
    /// # Errors
    /// What the archive reports.
    pub(super) fn save(&self, archive: &mut Archive) -> Result<()> {
        let (m, d) = self.x.dim();
        let Some(rows) = &self.rows else {
            return archive.put_f32("landmarks", &[m, d], self.x.iter().copied().collect());
        };
        let numbered = self.x.outer_iter().zip(rows);
        let values = numbered.flat_map(|(x, row)| x.to_vec().into_iter().chain([*row as f32]));
        archive.put_f32("landmarks", &[m, d + 1], values.collect())?;
        if rows.iter().all(|row| *row <= EXACT) {
            return Ok(());
        }
        archive.put_u64("landmark_rows", &[m], rows.iter().map(|row| *row as u64).collect())
    }

    /// Reads them back, for `kernel`.
    ///
    /// # Errors
    /// [`Error::ModelFile`](crate::Error::ModelFile) for a damaged file.
    pub(super) fn load(archive: &Archive, kernel: &dyn Kernel) -> Result<Self> {
        let stored = archive.f32_matrix("landmarks")?;
        let (m, columns) = stored.dim();
        if kernel.by_index().is_none() || columns == 0 {
            return Ok(stored.into());
        }
        let damaged = |v: &dyn std::fmt::Display| {
            archive.fault(format!("{v} is not the row number of a landmark"))
        };
        let rows: Result<Vec<usize>> = match archive.shape("landmark_rows") {
            Some(_) => {
                let rows = archive.u64("landmark_rows", &[m])?.iter();
                rows.map(|v| usize::try_from(*v).map_err(|_| damaged(v))).collect()
            }
            None => {
                let whole = |v: &f32| match *v >= 0.0 && v.fract() == 0.0 {
                    true => Ok(*v as usize),
                    false => Err(damaged(v)),
                };
                stored.column(columns - 1).iter().map(whole).collect()
            }
        };
        Ok(LandmarkPoints { x: stored.slice(s![.., ..columns - 1]).to_owned(), rows: Some(rows?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::PrecomputedKernel;
    use crate::test_kernels::rbf;

    fn archive() -> Archive {
        Archive::new("model", serde_json::Value::Null)
    }

    #[test]
    fn row_numbers_are_a_column_of_files_and_exact_beyond_single_precision() {
        let kernel = PrecomputedKernel::new(2);
        let x = ndarray::array![[1.0f32, 0.5], [0.5, 2.0]];
        for (rows, names) in [
            (vec![3, EXACT], vec!["landmarks"]),
            (vec![EXACT + 1, EXACT + 2], vec!["landmark_rows", "landmarks"]),
        ] {
            let indices = rows.clone();
            let landmarks = LandmarkPoints::new(&kernel, Batch { indices, x: x.clone() });
            let mut file = archive();
            landmarks.save(&mut file).unwrap();
            assert_eq!(file.names().collect::<Vec<_>>(), names);
            let column = [1.0, 0.5, rows[0] as f32, 0.5, 2.0, rows[1] as f32];
            assert_eq!(file.f32("landmarks", &[2, 3]).unwrap(), column);
            let again = LandmarkPoints::load(&file, &kernel).unwrap();
            assert_eq!((again.x, again.rows), (x.clone(), Some(rows)));
        }
        for bad in [0.5, -1.0] {
            let mut file = archive();
            file.put_f32("landmarks", &[1, 3], vec![1.0, 0.5, bad]).unwrap();
            assert!(LandmarkPoints::load(&file, &kernel).is_err());
        }
    }

    #[test]
    fn landmarks_of_other_kernels_have_no_row_numbers() {
        let x = ndarray::array![[1.0f32, 0.5], [0.5, 2.0]];
        let batch = Batch { indices: vec![7, 9], x: x.clone() };
        let mut file = archive();
        LandmarkPoints::new(&rbf(1.0), batch).save(&mut file).unwrap();
        assert_eq!(file.f32("landmarks", &[2, 2]).unwrap(), [1.0, 0.5, 0.5, 2.0]);
        assert_eq!(LandmarkPoints::load(&file, &rbf(1.0)).unwrap().x, x);
    }
}
