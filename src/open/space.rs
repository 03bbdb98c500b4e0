//! Owns where voxels of an [`Entry`] lie: the space that its format speaks of, and what of it a scale and a translation hold. Knows nothing of formats.

use std::fmt;

use super::entry::Entry;

/// Largest part of a step that may go along another axis than its own, for it to count as going along its own: what rounding leaves of matrices and quaternions of 32 bits.
const ROUNDING: f64 = 1e-5;

/// How far the two lengths of a step that a file has may lie apart, and still be the same: one of 32 bits, and the shortest decimal for it.
const SAME: f64 = 1e-4;

/// What the axes of the space are that [`Entry::to_space`] leads to: where in a patient x, y and z grow to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EntrySpace {
    /// To the right, to the front, upwards: that of NIfTI.
    RightAnteriorSuperior,
    /// To the left, to the front, upwards.
    LeftAnteriorSuperior,
    /// To the left, to the back, upwards: that of DICOM and, by convention, of `MetaImage`.
    LeftPosteriorSuperior,
    /// Another one, by the name that the file has for it, such as `scanner-xyz`.
    Other(String),
}

impl EntrySpace {
    /// Its name as NRRD has it, such as `right-anterior-superior`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::RightAnteriorSuperior => "right-anterior-superior",
            Self::LeftAnteriorSuperior => "left-anterior-superior",
            Self::LeftPosteriorSuperior => "left-posterior-superior",
            Self::Other(name) => name,
        }
    }

    /// The space of that name, long or short as NRRD has it.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "right-anterior-superior" | "ras" => Self::RightAnteriorSuperior,
            "left-anterior-superior" | "las" => Self::LeftAnteriorSuperior,
            "left-posterior-superior" | "lps" => Self::LeftPosteriorSuperior,
            _ => Self::Other(name.to_owned()),
        }
    }
}

impl fmt::Display for EntrySpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Entry {
    /// Steps in space from a voxel of the finest level to the next along x, y and z: the first columns of [`Entry::to_space`]; without it, [`Entry::spacing`] along axes that are the voxels' own.
    #[must_use]
    pub fn steps(&self) -> [[f64; 3]; 3] {
        let [x, y, z] = self.spacing;
        match self.to_space {
            Some(rows) => [0, 1, 2].map(|column| rows.map(|row| row[column])),
            None => [[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z]],
        }
    }

    /// Where in space the centre of a voxel of the finest level lies; what a box of the volume that begins there has as its origin.
    #[must_use]
    pub fn position(&self, voxel: [f64; 3]) -> [f64; 3] {
        let steps = self.steps();
        [0, 1, 2].map(|row| self.origin[row] + (0..3).map(|axis| steps[axis][row] * voxel[axis]).sum::<f64>())
    }

    /// Whether the voxels' axes are others than those of the space: turned, swapped or flipped, so that spacing and origin alone say nothing true of where voxels lie.
    #[must_use]
    pub fn is_turned(&self) -> bool {
        let along = |(axis, step): (usize, &[f64; 3])| {
            let aside = (0..3).filter(|other| *other != axis).map(|other| step[other].abs());
            step[axis] > 0.0 && aside.fold(0.0, f64::max) <= ROUNDING * step[axis]
        };
        !self.steps().iter().enumerate().all(along)
    }

    /// Distance of voxels along x, y and z and position of the first one, which is all that OME-Zarr holds of where they lie.
    ///
    /// Where the volume [is turned](Entry::is_turned) these cannot tell its orientation: then the position is 0, so that what is written is distances along the voxels' own axes, and a warning goes to `tracing`.
    #[must_use]
    pub fn scale_and_translation(&self) -> ([f64; 3], [f64; 3]) {
        if self.is_turned() {
            let space = self.space.as_ref().map(EntrySpace::name);
            let steps = self.steps();
            tracing::warn!(
                entry = self.name,
                space,
                ?steps,
                "scale and translation do not hold the orientation"
            );
            return (self.spacing, [0.0; 3]);
        }
        let steps = self.steps();
        // Files may have two opinions; positions are those of the transform.
        let scale = [0, 1, 2].map(|axis| {
            let (step, spacing) = (steps[axis][axis], self.spacing[axis]);
            if (step - spacing).abs() <= SAME * spacing { spacing } else { step }
        });
        (scale, self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Extent;

    fn entry(to_space: [[f64; 4]; 3]) -> Entry {
        let mut entry = Entry::new("0", Extent::cube(9), None);
        entry.spacing = [2.0, 3.0, 4.0];
        entry.origin = to_space.map(|row| row[3]);
        entry.to_space = Some(to_space);
        entry
    }

    #[test]
    fn positions_go_through_the_transform() {
        let flipped = entry([[-2.0, 0.0, 0.0, 90.0], [0.0, 0.0, 4.0, 5.0], [0.0, 3.0, 0.0, 6.0]]);
        assert_eq!(flipped.position([10.0, 1.0, 2.0]), [70.0, 13.0, 9.0]);
        assert!(flipped.is_turned());
        assert_eq!(flipped.scale_and_translation(), ([2.0, 3.0, 4.0], [0.0; 3]));
        let mut plain = Entry::new("0", Extent::cube(9), None);
        (plain.spacing, plain.origin) = ([2.0, 3.0, 4.0], [1.0; 3]);
        assert_eq!(plain.position([10.0, 1.0, 2.0]), [21.0, 4.0, 9.0]);
        assert!(!plain.is_turned());
        assert_eq!(plain.scale_and_translation(), ([2.0, 3.0, 4.0], [1.0; 3]));
    }

    #[test]
    fn rounding_turns_nothing_and_other_lengths_are_those_of_the_transform() {
        let rounded = entry([[2.000_000_1, 1e-7, 0.0, 1.0], [0.0, 3.0, 0.0, 2.0], [-1e-6, 0.0, 4.0, 3.0]]);
        assert!(!rounded.is_turned());
        assert_eq!(rounded.scale_and_translation(), ([2.0, 3.0, 4.0], [1.0, 2.0, 3.0]));
        let other = entry([[2.5, 0.0, 0.0, 1.0], [0.0, 3.0, 0.0, 2.0], [0.0, 0.0, 4.0, 3.0]]);
        assert_eq!(other.scale_and_translation(), ([2.5, 3.0, 4.0], [1.0, 2.0, 3.0]));
        for turned in [
            [[2.0, 1e-3, 0.0, 1.0], [0.0, 3.0, 0.0, 2.0], [0.0, 0.0, 4.0, 3.0]],
            [[2.0, 0.0, 0.0, 1.0], [0.0, 3.0, 0.0, 2.0], [0.0, 0.0, -4.0, 3.0]],
            [[0.0; 4]; 3],
        ] {
            assert!(entry(turned).is_turned(), "{turned:?}");
        }
    }

    #[test]
    fn spaces_have_the_names_of_nrrd() {
        for name in
            ["right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "scanner-xyz"]
        {
            assert_eq!(EntrySpace::of_name(name).to_string(), name);
        }
        assert_eq!(EntrySpace::of_name("LPS"), EntrySpace::LeftPosteriorSuperior);
    }
}
