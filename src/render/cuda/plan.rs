//! Owns [`CastPlan`]: camera, transfer function and options, found good and made into what a kernel takes, and what it gives made into a picture. Knows nothing of devices: whoever
//! launches kernels of their own, or runs them elsewhere, can use it alone.
//!
//! ```text
//! input    colours of each level | clear entries before each | highlights | rays as they were
//! output   pixels | counts | wanted tiles | met tiles | rays | ends of rays | boxes of tiles     zero from the counts on, at first; ends and boxes are for the kernels alone
//! ```

use std::mem::size_of_val;

use super::super::camera::Camera;
use super::super::error::RenderError;
use super::super::levels::{begins, stride};
use super::super::options::Options;
use super::super::prepare::{AnyMethod, Prepared};
use super::super::transfer::TransferFunction;
use super::boxes::Boxes;
use super::describe::{parameters, tables};
use super::parameters::{
    COUNTS_BYTES, CastParameters, HIGHLIGHTS, MAX_LEVELS, RAY_BYTES, WANT_BYTES, WANTS_LOG2,
};
use super::report::{CastRendered, ShownLevels, decoded};
use crate::backend::cuda::kernels;
use crate::device::GridView;
use crate::layout::Layout;
use crate::voxel::{Scalar, ScalarType};

/// Pixels of a block along each side.
const BLOCK: u32 = 8;
/// Positions in a page are floats, and steps in it are added up in 32 bits.
const MOST_PAGE_SIDE: u64 = 1 << 20;
const MOST_PAGE_VOXELS: u64 = (1 << 30) - 1;
/// The most samples of the finest level that one of another stands for: they are counted in 32 bits.
const MOST_STRIDE: u32 = 1 << 20;
/// Threads of a block that counts tiles. Its warps look at a group of 64 each, or at more where there are many.
const COUNTING: u32 = 256;
const COUNTING_WARPS: u64 = COUNTING as u64 / 32;
/// Blocks that count the tiles of a level, at the most.
const MOST_COUNTING_BLOCKS: u64 = 512;

/// One level of what is shown, as kernels see it.
#[derive(Clone, Copy, Debug)]
pub struct PlanLevel<'a> {
    /// What kernels read it through.
    pub view: GridView,
    /// How it is laid out.
    pub layout: &'a Layout,
    /// How many voxels of the finest level a voxel covers along each axis: voxel `i` those from `i * factor` on. 1 for the finest.
    pub factor: [u32; 3],
}

/// A picture that a kernel can make.
#[derive(Clone, Debug)]
pub struct CastPlan {
    parameters: CastParameters,
    layouts: Vec<Layout>,
    boxes: Vec<Boxes>,
    kernel: String,
    scalar: ScalarType,
    input: Vec<u8>,
    colours_bytes: usize,
    seen_bytes: usize,
    /// log2 of the tiles that rays met or lacked, of which there is room for; `None`: they are not asked for.
    met_log2: Option<u32>,
    /// Where in the input rays are as they were after the turn before, if rays wait.
    before: Option<usize>,
}

impl CastPlan {
    /// From the levels, finest first, and what [`render`](super::super::render) takes.
    ///
    /// `level_bias` is in levels: 1 shows everything in half the detail, -1 in twice as much.
    ///
    /// # Errors
    /// As [`render`](super::super::render); [`RenderError::VoxelOfKernel`]; [`RenderError::Level`] for what is no pyramid, a side of more than 2^30 voxels, or a page of more than 2^20 along an
    /// axis or of 2^30 in all.
    pub fn new<T: Scalar>(
        levels: &[PlanLevel<'_>],
        level_bias: f64,
        camera: &Camera,
        transfer: &TransferFunction,
        options: &Options,
    ) -> Result<Self, RenderError> {
        ptx_for(T::TYPE)?;
        let bad = |level, problem| RenderError::Level { level, levels: levels.len(), problem };
        let Some(finest) = levels.first().filter(|_| levels.len() <= MAX_LEVELS) else {
            return Err(bad(levels.len(), "there must be 1 to 16"));
        };
        if finest.factor != [1; 3] {
            return Err(bad(0, "the finest level's factors must be 1"));
        }
        super::super::error::checked("level bias", level_bias, "from -32 to 32", |v| v.abs() <= 32.0)?;
        for (i, pair) in levels.windows(2).enumerate() {
            let rises = (0..3).all(|a| pair[1].factor[a] >= pair[0].factor[a]);
            if !rises || pair[1].factor == pair[0].factor {
                return Err(bad(i + 1, "factors must rise"));
            }
        }
        let extent = finest.layout.extent();
        if extent.to_array().into_iter().any(|side| side > super::super::path::MAX_EXTENT) {
            return Err(bad(0, "a side is longer than 2^30"));
        }
        for (i, PlanLevel { layout, .. }) in levels.iter().enumerate() {
            let (page, tile) = (layout.page_shape().to_array(), layout.tile_shape().to_array());
            let long = (0..3).any(|a| page[a] * tile[a] > MOST_PAGE_SIDE);
            if long || layout.page_bytes() / layout.voxel_bytes() > MOST_PAGE_VOXELS {
                return Err(bad(i, "a page must be no longer than 2^20 voxels, and less than 2^30 in all"));
            }
        }
        let prepared = Prepared::new(extent, camera, transfer, options)?;
        let factors: Vec<_> = levels.iter().map(|level| level.factor.map(f64::from)).collect();
        let strides: Vec<_> =
            factors.iter().map(|&factor| stride(factor, options.spacing).min(MOST_STRIDE)).collect();
        let (table, light) = tables(&prepared.method, transfer);
        let kernel = kernel_name(&prepared.method, levels.len() > 1, T::TYPE);
        let (_, seen) = table.entries();
        // What lies further apart is more opaque.
        let shades: Vec<_> = strides
            .iter()
            .map(|&stride| {
                let step = prepared.step() * f64::from(stride);
                tables(&AnyMethod::new(transfer, options, step, options.spacing), transfer).0
            })
            .collect();
        let colours: Vec<_> = shades.iter().flat_map(|table| table.entries().0).copied().collect();
        let highlight = light.map_or_else(|| vec![0.0; HIGHLIGHTS + 1], |light| light.highlight.clone());
        let (colours_bytes, seen_bytes) = (size_of_val(&colours[..]), size_of_val(seen));
        let input = [
            bytemuck::cast_slice(&colours),
            bytemuck::cast_slice(seen),
            bytemuck::cast_slice::<f32, u8>(&highlight),
        ]
        .concat();
        let begins = begins(&prepared, &factors, level_bias);
        let parameters = parameters(&prepared, &table, light, levels, &begins, &strides);
        let layouts = levels.iter().map(|level| level.layout.clone()).collect();
        let boxes = levels.iter().map(|level| Boxes::of(level.layout)).collect();
        Ok(Self {
            parameters,
            layouts,
            boxes,
            kernel,
            scalar: T::TYPE,
            input,
            colours_bytes,
            seen_bytes,
            met_log2: None,
            before: None,
        })
    }

    /// With all tiles told that rays meet or lack ([`CastReport::met`](super::CastReport::met)), where [`CastPlan::met_kernel`] goes after: room for so many and as many again, from 2^14 up to
    /// 2^20.
    ///
    /// **Cost**: 16 bytes for each come back, and another walk along every ray, without its samples.
    #[must_use]
    pub fn telling_met(mut self, tiles: u64) -> Self {
        self.met_log2 = Some(tiles.clamp(1 << 13, 1 << 19).next_power_of_two().trailing_zeros() + 1);
        // Only these kernels count what was shown by level, which is none for what is missing.
        self.take_kernel_of_levels();
        self
    }

    fn take_kernel_of_levels(&mut self) {
        if !self.counts_levels() {
            let name = format!("_{}", self.scalar);
            self.kernel = self.kernel.replace(&name, &format!("_levels{name}"));
        }
    }

    fn counts_levels(&self) -> bool {
        self.kernel.contains("_levels_")
    }

    /// As one turn of several, in which rays wait where they lack something: they go on from `before`, which is what [`CastPlan::rays`] gave after the turn before, or empty at first. For one level.
    pub(super) fn in_turns(mut self, before: &[u8]) -> Self {
        // Only these kernels know of turns.
        self.take_kernel_of_levels();
        self.input.resize(self.input.len().next_multiple_of(16), 0);
        self.before = Some(self.input.len());
        self.input.extend_from_slice(before);
        self
    }

    /// The rays in what the kernel wrote, in turns.
    pub(super) fn rays<'o>(&self, output: &'o [u8]) -> &'o [u8] {
        output.get(self.rays_from()..self.result_bytes()).unwrap_or_default()
    }

    /// The kernel's name, such as `vg_cast_dvr_lit_u16`.
    #[must_use]
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// The code that has it.
    #[must_use]
    pub fn ptx(&self) -> &'static str {
        ptx_for(self.scalar).unwrap_or_default()
    }

    /// Blocks of the launch.
    #[must_use]
    pub fn grid(&self) -> [u32; 3] {
        [self.parameters.width.div_ceil(BLOCK), self.parameters.height.div_ceil(BLOCK), 1]
    }

    /// Threads of a block.
    #[must_use]
    pub fn block(&self) -> [u32; 3] {
        [BLOCK * BLOCK, 1, 1]
    }

    /// Name of the kernel that goes before, such as `vg_cast_boxes_u16`: it finds the boxes of tiles that are all there, which rays then go through in one run. With the same parameter;
    /// without it pictures are the same, but take longer.
    #[must_use]
    pub fn boxes_kernel(&self) -> String {
        format!("vg_cast_boxes_{}", self.scalar)
    }

    /// Blocks of its launch: a row for each level.
    #[must_use]
    pub fn boxes_grid(&self) -> [u32; 3] {
        let groups = |layout: &Layout| layout.tile_slots() / 64 + 1;
        let most = self.layouts.iter().map(groups).max().unwrap_or(1);
        let blocks = most.div_ceil(COUNTING_WARPS).min(MOST_COUNTING_BLOCKS);
        [u32::try_from(blocks).unwrap_or(1), self.parameters.levels, 1]
    }

    /// Threads of a block of it.
    #[must_use]
    pub fn boxes_block(&self) -> [u32; 3] {
        [COUNTING, 1, 1]
    }

    /// Name of the kernel that goes after, such as `vg_cast_met_u16`, with as many blocks and threads as the one that makes the picture; `None` unless it was asked for.
    #[must_use]
    pub fn met_kernel(&self) -> Option<String> {
        self.met_log2.map(|_| format!("vg_cast_met_{}", self.scalar))
    }

    /// What the kernel reads, aligned to 16 bytes.
    #[must_use]
    pub fn input(&self) -> &[u8] {
        &self.input
    }

    /// Size of what it writes, aligned to 16 bytes.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.boxes_from() + self.boxes.iter().map(Boxes::bytes).sum::<usize>()
    }

    /// How much of that, from its beginning on, is looked at afterwards: see [`CastPlan::finish`].
    #[must_use]
    pub fn result_bytes(&self) -> usize {
        self.rays_from() + self.before.map_or(0, |_| self.pixels() * RAY_BYTES)
    }

    fn rays_from(&self) -> usize {
        self.met_from() + self.met_bytes()
    }

    fn met_bytes(&self) -> usize {
        self.met_log2.map_or(0, |log2| WANT_BYTES << log2)
    }

    fn met_from(&self) -> usize {
        self.zero_from() + COUNTS_BYTES.next_multiple_of(16) + (WANT_BYTES << WANTS_LOG2)
    }

    fn pixels(&self) -> usize {
        self.parameters.width as usize * self.parameters.height as usize
    }

    fn boxes_from(&self) -> usize {
        let ends_bytes = self.met_log2.map_or(0, |_| (self.pixels() * 4).next_multiple_of(16));
        self.result_bytes() + ends_bytes
    }

    /// From where on that must be zero at first.
    #[must_use]
    pub fn zero_from(&self) -> usize {
        self.pixels() * 16
    }

    /// The kernel's parameter, for input and output at these addresses.
    #[must_use]
    pub fn parameters(&self, input: u64, output: u64) -> CastParameters {
        let counts = output + self.zero_from() as u64;
        let seen = input + self.colours_bytes as u64;
        let mut level = self.parameters.level;
        let mut at = output + self.boxes_from() as u64;
        for (level, boxes) in level.iter_mut().zip(&self.boxes) {
            level.boxes = boxes.at(at);
            at += boxes.bytes() as u64;
        }
        CastParameters {
            level,
            colours: input,
            seen,
            highlight: seen + self.seen_bytes as u64,
            image: output,
            counts,
            wants: counts + COUNTS_BYTES.next_multiple_of(16) as u64,
            ends: self.met_log2.map_or(0, |_| output + self.result_bytes() as u64),
            met: output + self.met_from() as u64,
            rays: self.before.map_or(0, |_| output + self.rays_from() as u64),
            before: self.before.filter(|&at| at < self.input.len()).map_or(0, |at| input + at as u64),
            met_log2: self.met_log2.unwrap_or(0),
            ..self.parameters
        }
    }

    /// The picture in what the kernel wrote.
    ///
    /// # Errors
    /// [`RenderError::Output`] where `output` is shorter than [`CastPlan::result_bytes`].
    pub fn finish(&self, output: &[u8]) -> Result<CastRendered, RenderError> {
        let (width, height) = (self.parameters.width, self.parameters.height);
        let mut rendered = decoded(output, width, height, self.zero_from(), self.met_bytes(), &self.layouts)?;
        if !self.counts_levels() {
            rendered.report.shown = ShownLevels::all_of_one(rendered.report.samples);
        }
        Ok(rendered)
    }
}

fn ptx_for(scalar: ScalarType) -> Result<&'static str, RenderError> {
    match scalar {
        ScalarType::U8 => Ok(kernels::CAST_U8),
        ScalarType::U16 => Ok(kernels::CAST_U16),
        ScalarType::I16 => Ok(kernels::CAST_I16),
        ScalarType::F32 => Ok(kernels::CAST_F32),
        given => Err(RenderError::VoxelOfKernel { given }),
    }
}

fn kernel_name(method: &AnyMethod, pyramid: bool, scalar: ScalarType) -> String {
    let mode = match method {
        AnyMethod::Dvr(m) if m.light.is_some() => "dvr_lit",
        AnyMethod::Dvr(_) => "dvr",
        AnyMethod::Mip(_) => "mip",
        AnyMethod::Iso(_) => "iso",
    };
    format!("vg_cast_{mode}{}_{scalar}", if pyramid { "_levels" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Extent;
    use crate::layout::LayoutSpec;

    fn layout(side: u64) -> Layout {
        Layout::new(Extent::cube(side), 2, LayoutSpec::default(), 1, 1 << 12).unwrap()
    }

    fn plan<T: Scalar>(
        levels: &[(u64, [u32; 3])],
        bias: f64,
        parallel: bool,
    ) -> Result<CastPlan, RenderError> {
        let layouts: Vec<_> = levels.iter().map(|&(side, _)| layout(side)).collect();
        let views = layouts.iter().map(|layout| GridView::new(layout, 0, 0, &[0; 2], false).unwrap());
        let levels: Vec<_> = layouts
            .iter()
            .zip(views)
            .zip(levels)
            .map(|((layout, view), &(_, factor))| PlanLevel { view, layout, factor })
            .collect();
        let mut camera = Camera::fit(Extent::cube(64), [1.0; 3]);
        if parallel {
            camera = camera.orthographic();
        }
        let transfer = TransferFunction::grey_ramp(0.0, 1.0).unwrap();
        CastPlan::new::<T>(&levels, bias, &camera, &transfer, &Options::default())
    }

    #[test]
    fn what_is_no_pyramid_is_refused() {
        let refused = |levels: &[(u64, [u32; 3])], bias| plan::<u16>(levels, bias, false).is_err();
        assert!(refused(&[], 0.0));
        assert!(refused(&[(64, [2; 3])], 0.0));
        assert!(refused(&[(64, [1; 3]), (32, [2, 2, 0])], 0.0));
        assert!(refused(&[(64, [1; 3]), (32, [2; 3]), (32, [2; 3])], 0.0));
        assert!(refused(&[(64, [1; 3])], f64::NAN));
        let many: Vec<_> = (0..=MAX_LEVELS).map(|i| (64, [1 << i; 3])).collect();
        assert!(refused(&many, 0.0) && !refused(&many[..MAX_LEVELS], 0.0));
        let odd = plan::<f64>(&[(64, [1; 3])], 0.0, false).unwrap_err();
        assert!(matches!(odd, RenderError::VoxelOfKernel { given: ScalarType::F64 }));
    }

    #[test]
    fn pages_that_steps_and_positions_do_not_reach_through_are_refused() {
        let transfer = TransferFunction::grey_ramp(0.0, 1.0).unwrap();
        let camera = Camera::fit(Extent::cube(64), [1.0; 3]);
        for (tile, is_right) in
            [([1 << 20, 2, 1], true), ([1 << 21, 1, 1], false), ([1024, 1024, 1024], false)]
        {
            let spec = LayoutSpec { tile: Some(tile.into()), page: Some([1; 3].into()), page_bytes: None };
            let layout = Layout::new(tile.into(), 1, spec, 1, 1 << 12).unwrap();
            let view = GridView::new(&layout, 0, 0, &[0], false).unwrap();
            let level = PlanLevel { view, layout: &layout, factor: [1; 3] };
            let made = CastPlan::new::<u8>(&[level], 0.0, &camera, &transfer, &Options::default());
            assert_eq!(made.is_ok(), is_right, "{tile:?}");
            assert!(is_right || matches!(made, Err(RenderError::Level { level: 0, .. })));
        }
    }

    #[test]
    fn levels_begin_where_their_voxels_are_as_large_as_pixels() {
        let levels = [(64, [1; 3]), (32, [2, 2, 1]), (16, [4; 3])];
        let begins = |bias, parallel| {
            let parameters = plan::<u16>(&levels, bias, parallel).unwrap().parameters(0, 0);
            [0, 1, 2].map(|i| parameters.level[i].begin)
        };
        let [none, half, quarter] = begins(0.0, false);
        let pixel = 2.0 * 15f32.to_radians().tan() / 512.0;
        assert_eq!(none, 0.0);
        // Along z the second level is as fine as the first.
        assert!((half * pixel - 1.0).abs() < 1e-4 && (quarter * pixel - 4.0).abs() < 1e-4);
        assert!((begins(1.0, false)[2] * 2.0 - quarter).abs() < 1e-3 * quarter);
        // All pixels of parallel rays are alike: about a fifth of a voxel here.
        assert_eq!(begins(0.0, true), [0.0, f32::INFINITY, f32::INFINITY]);
        assert_eq!(begins(3.5, true), [0.0, 0.0, f32::INFINITY]);
        let parameters = plan::<u16>(&levels, 0.0, false).unwrap().parameters(0, 0);
        assert_eq!([0, 1, 2].map(|i| parameters.level[i].stride), [1, 1, 4]);
        let shade = parameters.level[1].shade;
        assert!(shade > 0 && parameters.level[2].shade == 2 * shade);
    }

    #[test]
    fn places_in_input_and_output_do_not_overlap() {
        let plan = plan::<u16>(&[(64, [1; 3])], 0.0, false).unwrap();
        let p = plan.parameters(1 << 20, 1 << 30);
        assert_eq!((plan.kernel(), plan.grid()), ("vg_cast_dvr_u16", [64, 64, 1]));
        assert!(plan.ptx().contains(".entry vg_cast_dvr_u16("));
        assert_eq!(p.highlight - p.colours + (HIGHLIGHTS as u64 + 1) * 4, plan.input().len() as u64);
        assert_eq!(p.wants - p.image + (16 << WANTS_LOG2), plan.result_bytes() as u64);
        let boxes = p.level[0].boxes;
        assert_eq!(boxes.small, p.wants + (16 << WANTS_LOG2));
        assert!(boxes.large > boxes.small && boxes.large < p.image + plan.output_bytes() as u64);
        assert_eq!((p.image % 16, p.wants % 16, p.counts - p.image), (0, 0, 512 * 512 * 16));
        assert!(plan.finish(&[]).is_err());
        let nothing = plan.finish(&vec![0; plan.output_bytes()]).unwrap();
        assert!(nothing.report.wanted.is_empty() && nothing.report.shown.fidelity() == 1.0);
    }
}
