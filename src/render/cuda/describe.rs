//! Owns how a picture is told to kernels: tables and parameters, made from what the host's own rays are made from. Knows nothing of where they lie.

use super::super::light::Light;
use super::super::options::Mode;
use super::super::prepare::{AnyMethod, Prepared};
use super::super::table::Table;
use super::super::transfer::TransferFunction;
use super::parameters::{
    BoxParameters, CastParameters, HINT, LIT, LevelParameters, MODE, PARALLEL, SKIP_EMPTY, WANTS_LOG2,
};
use super::plan::PlanLevel;

pub(super) fn tables<'m>(method: &'m AnyMethod, transfer: &TransferFunction) -> (Table, Option<&'m Light>) {
    match method {
        AnyMethod::Dvr(m) => (m.table.clone(), m.light.as_ref()),
        AnyMethod::Mip(m) => (m.table.clone(), None),
        // Not looked at.
        AnyMethod::Iso(m) => (Table::new(transfer, None), Some(&m.light)),
    }
}

/// All but the addresses.
pub(super) fn parameters(
    prepared: &Prepared,
    table: &Table,
    light: Option<&Light>,
    levels: &[PlanLevel<'_>],
    begins: &[f64],
    strides: &[u32],
) -> CastParameters {
    let (axes, course, options) = (&prepared.axes, &prepared.course, &prepared.options);
    let ramp = table.ramp();
    let flag = |on: bool, bit: u32| if on { bit } else { 0 };
    let (colour, iso) = match options.mode {
        Mode::Iso { value, colour, .. } => (colour, value),
        _ => ([0.0; 3], 0.0),
    };
    let mode = match prepared.method {
        AnyMethod::Dvr(_) => 0,
        AnyMethod::Mip(_) => 1,
        AnyMethod::Iso(_) => 2,
    };
    let shades = table.entries().0.len();
    let level = |i: usize| {
        // Places that are not used hold the finest level once more.
        let level = levels.get(i).unwrap_or(&levels[0]);
        #[expect(clippy::cast_possible_truncation, reason = "a distance need not be exact")]
        let begin = begins.get(i).map_or(f32::INFINITY, |&begin| begin as f32);
        LevelParameters {
            grid: level.view,
            factor: level.factor,
            begin,
            stride: strides.get(i).copied().unwrap_or(1),
            shade: u32::try_from(i.min(levels.len() - 1) * shades).unwrap_or(0),
            boxes: BoxParameters::default(),
        }
    };
    CastParameters {
        eye: axes.eye.into(),
        right: axes.right.into(),
        up: axes.up.into(),
        forward: axes.forward.into(),
        half_height: axes.half_height,
        low: course.low,
        high: course.high,
        per_world: course.per_world,
        step: course.step,
        colours: 0,
        seen: 0,
        highlight: 0,
        image: 0,
        counts: 0,
        wants: 0,
        ends: 0,
        met: 0,
        rays: 0,
        before: 0,
        table_low: ramp.low,
        per_value: ramp.per_value,
        table_last: ramp.last,
        table_top: table.top(),
        background: options.background,
        hint: options.missing_colour.unwrap_or_default(),
        colour,
        iso,
        weights: light.map_or([1.0; 3], |light| light.per_voxel),
        stop_at_alpha: options.stop_at_alpha,
        ambient: light.map_or(1.0, |light| light.shading.ambient),
        diffuse: light.map_or(0.0, |light| light.shading.diffuse),
        width: options.width,
        height: options.height,
        levels: u32::try_from(levels.len()).unwrap_or(1),
        flags: flag(axes.parallel, PARALLEL)
            | flag(options.skip_empty, SKIP_EMPTY)
            | flag(options.missing_colour.is_some(), HINT)
            | flag(light.is_some(), LIT)
            | mode << MODE,
        wants_log2: WANTS_LOG2,
        met_log2: 0,
        level: std::array::from_fn(level),
    }
}
