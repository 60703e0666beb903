//! Images moved about before each step of training.

use std::fmt;
use std::str::FromStr;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::matrix::Mat;
use crate::nn::{IMAGE, Image, ORDER, Order, image_of, image_text, read_image};
use crate::rng::Rng;
use crate::spec::{Choice as _, Domain, Entry, Parameter, Registry};

/// Farthest shift.
const MAX_SHIFT: u64 = 4096;

const NONE: Entry<Augmentation> = Entry {
    name: "none",
    summary: "points as they are",
    parameters: &[],
    build: |_| Ok(Augmentation(Kind::None)),
};
const SHIFT_FLIP: Entry<Augmentation> = Entry {
    name: "shift_flip",
    summary: "images shifted at random, zeros moving in, and half of them flipped",
    parameters: &[
        Parameter::new(
            "pixels",
            Domain::Integer(0, MAX_SHIFT),
            "4",
            "the farthest shift in either direction",
        ),
        Parameter::new("flip", Domain::Boolean, "true", "flip left and right"),
        IMAGE,
        ORDER,
    ],
    build: |args| {
        Ok(Augmentation(Kind::ShiftFlip {
            pixels: args.size("pixels")?,
            flip: args.boolean("flip")?,
            image: read_image(args)?,
            order: args.choice("order")?,
        }))
    },
};

/// Every augmentation by name.
pub static AUGMENTATIONS: Registry<Augmentation> =
    Registry { kind: "augmentation", entries: &[NONE, SHIFT_FLIP] };

/// How points are changed before each step of training; parses from and displays as its text form,
/// such as `shift_flip(pixels=4)`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Augmentation(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Kind {
    #[default]
    None,
    ShiftFlip {
        pixels: usize,
        flip: bool,
        image: Option<Image>,
        order: Order,
    },
}

impl Augmentation {
    /// Fails unless points of `inputs` columns are images, where images are wanted.
    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        match self.0 {
            Kind::None => Ok(()),
            Kind::ShiftFlip { image, .. } => image_of(image, inputs).map(|_| ()),
        }
    }

    /// Changes every row of `x` by draws of its own.
    pub(super) fn apply(&self, x: &mut Mat, rng: &mut Rng) -> Result<()> {
        let Kind::ShiftFlip { pixels, flip, image, order } = self.0 else { return Ok(()) };
        let image = image_of(image, x.ncols())?;
        let reach = pixels as i64;
        let mut from = vec![0.0; image.len()];
        for mut row in x.rows_mut() {
            let [down, right] = [(); 2].map(|()| rng.random_range(-reach..=reach) as isize);
            let mirrored = flip && rng.random_bool(0.5);
            from.iter_mut().zip(&row).for_each(|(to, v)| *to = *v);
            let place = |y: usize, x: usize, c: usize| match order {
                Order::Chw => (c * image.height + y) * image.width + x,
                Order::Hwc => (y * image.width + x) * image.channels + c,
            };
            for y in 0..image.height {
                let source_y = y.checked_add_signed(-down).filter(|v| *v < image.height);
                for x in 0..image.width {
                    let column = if mirrored { image.width - 1 - x } else { x };
                    let source_x = column.checked_add_signed(-right).filter(|v| *v < image.width);
                    for c in 0..image.channels {
                        row[place(y, x, c)] = match (source_y, source_x) {
                            (Some(y), Some(x)) => from[place(y, x, c)],
                            _ => 0.0,
                        };
                    }
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Augmentation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        AUGMENTATIONS.build_text(text)
    }
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self.0 {
            Kind::None => NONE.text(&[]),
            Kind::ShiftFlip { pixels, flip, image, order } => SHIFT_FLIP.text(&[
                ("pixels", &pixels),
                ("flip", &flip),
                ("image", &image_text(image)),
                ("order", &order.name()),
            ]),
        })
    }
}

impl TryFrom<String> for Augmentation {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Augmentation> for String {
    fn from(augmentation: Augmentation) -> String {
        augmentation.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_shifted_and_flipped_whole() {
        // 3 × 4 pixels of 2 channels; each number tells its place.
        let image = Image { height: 3, width: 4, channels: 2 };
        for order in [Order::Chw, Order::Hwc] {
            let value = |y: usize, x: usize, c: usize| (1 + y * 100 + x * 10 + c) as f32;
            let at = |y: usize, x: usize, c: usize| match order {
                Order::Chw => (c * 3 + y) * 4 + x,
                Order::Hwc => (y * 4 + x) * 2 + c,
            };
            let mut row = [0.0; 24];
            for (y, x, c) in (0..24).map(|i| (i / 8, i / 2 % 4, i % 2)) {
                row[at(y, x, c)] = value(y, x, c);
            }
            let kind = Kind::ShiftFlip { pixels: 1, flip: true, image: Some(image), order };
            let mut x = Mat::from_shape_fn((400, 24), |(_, j)| row[j]);
            Augmentation(kind).apply(&mut x, &mut crate::rng::stream(0, "test", 0)).unwrap();
            let mut seen = std::collections::BTreeSet::new();
            for row in x.rows() {
                // One of 3 · 3 · 2 transformations explains every number of an image.
                let explains = |(down, right, flip): &(isize, isize, bool)| {
                    (0..24).map(|i| (i / 8, i / 2 % 4, i % 2)).all(|(y, x, c)| {
                        let (from_y, column) = (y as isize - down, if *flip { 3 - x } else { x });
                        let from_x = column as isize - right;
                        let inside = (0..3).contains(&from_y) && (0..4).contains(&from_x);
                        let want = match inside {
                            true => value(from_y as usize, from_x as usize, c),
                            false => 0.0,
                        };
                        row[at(y, x, c)] == want
                    })
                };
                let all = (-1..=1).flat_map(|d| (-1..=1).map(move |r| (d, r)));
                let all = all.flat_map(|(d, r)| [false, true].map(|flip| (d, r, flip)));
                seen.insert(all.into_iter().find(explains).expect("no such transformation"));
            }
            assert_eq!(seen.len(), 18);
        }
    }

    #[test]
    fn every_entry_builds_prints_and_parses() {
        use crate::spec::{Sample, registry::assert_complete};
        assert_complete(&AUGMENTATIONS, &[], Sample::Missing, Augmentation::to_string);
    }

    #[test]
    fn text_round_trips_and_faults_are_named() {
        for text in ["none", "shift_flip(pixels=2, flip=false, image=[4, 5, 3], order=hwc)"] {
            assert_eq!(text.parse::<Augmentation>().unwrap().to_string(), text);
        }
        let images: Augmentation = "shift_flip".parse().unwrap();
        assert_eq!(images.to_string(), "shift_flip(pixels=4, flip=true, image=auto, order=chw)");
        assert!(
            images.check(3 * 49).is_ok()
                && "none".parse::<Augmentation>().unwrap().check(7).is_ok()
        );
        assert!(images.check(7).unwrap_err().to_string().contains("image"));
        assert!("shift_flip(pixels=-1)".parse::<Augmentation>().is_err());
        assert!("rotate".parse::<Augmentation>().is_err());
    }
}
