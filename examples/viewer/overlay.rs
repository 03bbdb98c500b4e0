//! Owns what the page draws over a picture: its tiles with their levels and states, and the camera that they are seen by. Knows nothing of colours.

use serde::Serialize;
use vastgrid::render::{Camera, Projection};
use vastgrid::{ExploredTile, TileState};

/// The most tiles that are drawn; the others are counted.
const MOST_TILES: usize = 2500;

/// The tiles of a picture.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Overlay {
    eye: [f64; 3],
    target: [f64; 3],
    /// Degrees, or 0 in parallel projection:
    fov: f64,
    /// the height of the picture then, in the world.
    height: f64,
    /// Level, state, x, y, z of one tile after the other; states as in [`STATES`](Self::STATES).
    tiles: Vec<u64>,
    /// For each level, how many tiles are in each state.
    counts: Vec<[u64; 5]>,
}

impl Overlay {
    /// States, in the order of their numbers.
    pub(crate) const STATES: [&'static str; 5] = ["resident", "uniform", "loading", "missing", "failed"];

    /// From the tiles of a picture and its camera. `middle` of a tile is where it lies in the world.
    pub(crate) fn new(
        mut tiles: Vec<ExploredTile>,
        levels: usize,
        camera: &Camera,
        middle: impl Fn(&ExploredTile) -> [f64; 3],
    ) -> Self {
        let mut counts = vec![[0; 5]; levels];
        for tile in &tiles {
            if let Some(count) = counts.get_mut(tile.level) {
                count[number(tile.state)] += 1;
            }
        }
        if tiles.len() > MOST_TILES {
            // The nearest: they hide the others.
            let distance = |tile: &ExploredTile| {
                let middle = middle(tile);
                [0, 1, 2].map(|axis| (middle[axis] - camera.eye[axis]).powi(2)).iter().sum::<f64>()
            };
            tiles.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
            tiles.truncate(MOST_TILES);
        }
        let (fov, height) = match camera.projection {
            Projection::Perspective { fov_degrees } => (fov_degrees, 0.0),
            Projection::Orthographic { height } => (0.0, height),
        };
        let numbers = |tile: &ExploredTile| {
            [tile.level as u64, number(tile.state) as u64, tile.tile.x, tile.tile.y, tile.tile.z]
        };
        let tiles = tiles.iter().flat_map(numbers).collect();
        Self { eye: camera.eye, target: camera.target, fov, height, tiles, counts }
    }
}

fn number(state: TileState) -> usize {
    match state {
        TileState::Resident => 0,
        TileState::Uniform => 1,
        TileState::Loading => 2,
        TileState::Failed => 4,
        _ => 3,
    }
}
