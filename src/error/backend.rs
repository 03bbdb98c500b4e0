//! Owns [`BackendError`]: memory that could not be had, moved or given back, and devices that refuse.

/// Memory that could not be had, moved or given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// A call of the operating system failed.
    #[error("{call} of {bytes} bytes at offset {offset_bytes} failed: {source}")]
    System {
        /// The call, such as `mremap`.
        call: &'static str,
        /// Offset in the reservation (or 0 where there is none yet).
        offset_bytes: u64,
        /// Size that the call was about.
        bytes: u64,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// There is no memory left.
    #[error("{call}: out of memory for {bytes} bytes")]
    OutOfMemory {
        /// The call that found out.
        call: &'static str,
        /// Size asked for.
        bytes: u64,
    },
    /// The backend reserves no range of this size.
    #[error(
        "reservation of {bytes} bytes: the backend reserves from 1 up to {max_bytes}, in multiples of the page of {page_bytes}"
    )]
    ReserveSize {
        /// Size asked for.
        bytes: u64,
        /// Page size asked for.
        page_bytes: u64,
        /// The most that it reserves.
        max_bytes: u64,
    },
    /// Nothing was asked for: a size of zero.
    #[error("{call}: a size of zero bytes")]
    ZeroSize {
        /// The call.
        call: &'static str,
    },
    /// An alignment that no address can have.
    #[error("{call}: an alignment of {align_bytes} bytes: must be a power of two")]
    Alignment {
        /// The call.
        call: &'static str,
        /// The alignment asked for.
        align_bytes: u64,
    },
    /// An offset or size is no multiple of what the backend maps.
    #[error("{call}: offset {offset_bytes} and size {bytes} must be multiples of {granularity_bytes}")]
    Misaligned {
        /// The call.
        call: &'static str,
        /// Offset in the reservation.
        offset_bytes: u64,
        /// Size.
        bytes: u64,
        /// What both must be a multiple of.
        granularity_bytes: u64,
    },
    /// A range leaves the reservation.
    #[error("{call}: {bytes} bytes at offset {offset_bytes} leave the reservation of {reserved_bytes}")]
    OutOfRange {
        /// The call.
        call: &'static str,
        /// Offset in the reservation.
        offset_bytes: u64,
        /// Size.
        bytes: u64,
        /// Size of the reservation.
        reserved_bytes: u64,
    },
    /// There is a page at that address already.
    #[error("{call}: a page is mapped at offset {offset_bytes} already")]
    AlreadyMapped {
        /// The call.
        call: &'static str,
        /// Offset in the reservation.
        offset_bytes: u64,
    },
    /// There is no page at that address, or not in the whole range.
    #[error("{call}: no page is mapped at offset {offset_bytes}")]
    NotMapped {
        /// The call.
        call: &'static str,
        /// First offset without a page.
        offset_bytes: u64,
    },
    /// A range would cut a mapped page in two.
    #[error("{call}: {bytes} bytes at offset {offset_bytes} are not exactly one mapped page")]
    CutsMapping {
        /// The call.
        call: &'static str,
        /// Offset in the reservation.
        offset_bytes: u64,
        /// Size.
        bytes: u64,
    },
    /// The memory is mapped, but access to it was not set.
    #[error("{call}: access to offset {offset_bytes} is not allowed")]
    NoAccess {
        /// The call.
        call: &'static str,
        /// Offset in the reservation.
        offset_bytes: u64,
    },
    /// Nobody ever submitted what is there, or it was staged over since.
    #[error("{call}: what is at offset {offset_bytes} was never submitted")]
    NotWritten {
        /// The call.
        call: &'static str,
        /// First offset that holds nothing.
        offset_bytes: u64,
    },
    /// The range is being written by someone else.
    #[error("{call}: {bytes} bytes at offset {offset_bytes} are being written")]
    Busy {
        /// The call.
        call: &'static str,
        /// Offset in the reservation.
        offset_bytes: u64,
        /// Size.
        bytes: u64,
    },
    /// A reservation, page or staging buffer belongs to another backend, or is still in use.
    #[error("{call}: {what}")]
    WrongOwner {
        /// The call.
        call: &'static str,
        /// What is wrong with the object.
        what: &'static str,
    },
    /// This memory cannot be mapped a second time.
    #[error("{call}: the memory at offset {offset_bytes} cannot be shared")]
    CannotShare {
        /// The call.
        call: &'static str,
        /// Offset in the reservation.
        offset_bytes: u64,
    },
    /// The process would have more mappings than the system allows.
    #[error(
        "{call}: {mappings} memory mappings are in use and the system allows {limit}; raise the sysctl vm.max_map_count, or use larger pages or a smaller budget"
    )]
    TooManyMappings {
        /// The call.
        call: &'static str,
        /// Mappings that this backend holds.
        mappings: u64,
        /// `vm.max_map_count`.
        limit: u64,
    },
    /// A call of the CUDA driver failed.
    #[error("{call} of {bytes} bytes at offset {offset_bytes} failed: {name} ({code})")]
    Driver {
        /// The call, such as `cuMemMap`.
        call: &'static str,
        /// The driver's code.
        code: i32,
        /// The code's name, such as `CUDA_ERROR_INVALID_VALUE`.
        name: String,
        /// Offset in the reservation (or 0 where there is none).
        offset_bytes: u64,
        /// Size that the call was about (or 0 where it is about none).
        bytes: u64,
    },
    /// There is no CUDA driver on this machine, or it cannot be loaded.
    #[error("no CUDA driver: {library} cannot be loaded: {cause}")]
    NoDriver {
        /// The library that was looked for.
        library: &'static str,
        /// What the loader said.
        cause: String,
    },
    /// A library lacks a function: it is too old.
    #[error("{library} has no `{symbol}`: it is too old")]
    NoSymbol {
        /// The library.
        library: &'static str,
        /// The function.
        symbol: &'static str,
    },
    /// There is no device of that number.
    #[error("no CUDA device {ordinal}: there are {devices}, counted from 0")]
    NoDevice {
        /// The number asked for.
        ordinal: i32,
        /// How many there are.
        devices: i32,
    },
    /// The device cannot do what is needed.
    #[error("CUDA device {ordinal} does not support {what}")]
    DeviceUnsupported {
        /// The device.
        ordinal: i32,
        /// What it lacks.
        what: &'static str,
    },
    /// The device's context is dead: a kernel did what it must not, or the hardware failed. Nothing in this process can use it any more.
    #[error(
        "{call}: the device is lost: {name} ({code}); every later call on it fails, until the process ends"
    )]
    DeviceLost {
        /// The call that found out.
        call: &'static str,
        /// The driver's code.
        code: i32,
        /// The code's name, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        name: String,
    },
    /// The driver or the run-time compiler refused a kernel's code.
    #[error("kernel code was refused: {name} ({code}){}{log}", if log.is_empty() { "" } else { ": " })]
    Ptx {
        /// The code's name, such as `CUDA_ERROR_UNSUPPORTED_PTX_VERSION`.
        name: String,
        /// The driver's or the compiler's code.
        code: i32,
        /// What the compiler wrote.
        log: String,
    },
    /// A fault that a test asked for.
    #[error("{call}: fault injected into call {nth}")]
    Injected {
        /// The call.
        call: &'static str,
        /// Which call it was, counted from 1.
        nth: u64,
    },
}

impl BackendError {
    /// Whether nothing can be done with the device any more.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::DeviceLost { .. })
    }
}
