//! Owns what `--backend cuda` says: which device there is, and that pictures are not made there yet. An [`Eye`](crate::eye::Eye) over a pool of that device is what would take its place.

use vastgrid::CudaBackend;

use crate::Failure;

/// Opens the first device; what is missing, in any case.
pub(crate) fn refusal() -> Failure {
    match CudaBackend::open(0) {
        Err(error) => format!("--backend cuda: {error}").into(),
        Ok(backend) => {
            format!("--backend cuda: {} is there, but this viewer does not show pictures of it yet; --backend host shows the same volume", backend.device()).into()
        }
    }
}
