//! Owns where voxels lie in the world, as what is written can say it. Knows nothing of what is read.

use std::io::Write;

use vastgrid::Coord;
use vastgrid::store::NrrdDescription;

use crate::input::Input;

/// All that OME-Zarr holds. Says so where that is not all that there is.
pub(crate) fn scale_and_translation(input: &Input) -> ([f64; 3], [f64; 3]) {
    let Some(entry) = &input.entry else { return (input.spacing, [0.0; 3]) };
    if entry.is_turned() {
        let [x, y, z] = entry.steps();
        let space = entry.space.as_ref().map_or_else(String::new, |space| format!(" of {space}"));
        // Not `eprintln!`, which panics where nobody listens.
        let _ = writeln!(
            std::io::stderr(),
            "convert: the orientation is lost: x, y and z go along {x:?}, {y:?} and {z:?}{space}, and OME-Zarr holds a scale and a translation alone; what is written has its origin in the first voxel (a NRRD file, by `region`, keeps it)"
        );
    }
    let (scale, translation) = entry.scale_and_translation();
    // Where the command line says otherwise than the file.
    (if input.spacing == entry.spacing { scale } else { input.spacing }, translation)
}

/// What a NRRD file says of a box that begins there.
pub(crate) fn description(input: &Input, start: Coord) -> NrrdDescription {
    let spacing = input.spacing;
    let start = start.to_array().map(|at| at as f64);
    // One for all axes.
    let unit =
        input.units.iter().all(|unit| *unit == input.units[0]).then(|| input.units[0].clone()).flatten();
    let Some(entry) = &input.entry else {
        let origin = [0, 1, 2].map(|axis| spacing[axis] * start[axis]);
        return NrrdDescription { spacing, origin, unit, ..NrrdDescription::default() };
    };
    let mut steps = entry.steps();
    for (axis, step) in steps.iter_mut().enumerate() {
        let length = step.iter().map(|n| n * n).sum::<f64>().sqrt();
        if spacing[axis] != entry.spacing[axis] && length > 0.0 {
            *step = step.map(|n| n * spacing[axis] / length);
        }
    }
    let along = |row: usize| (0..3).map(|axis| steps[axis][row] * start[axis]).sum::<f64>();
    NrrdDescription {
        spacing,
        origin: [0, 1, 2].map(|row| entry.origin[row] + along(row)),
        directions: Some(steps),
        space: entry.to_space.and(entry.space.as_ref()).map(|space| space.name().to_owned()),
        unit,
    }
}
