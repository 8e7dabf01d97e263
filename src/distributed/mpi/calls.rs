//! The calls of MPI's C interface that are needed. An error is what was tried, and MPI's text.

use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;

use ::mpi::ffi;

use crate::distributed::transport::Payload;

pub(super) type Called<T> = std::result::Result<T, String>;
pub(super) type Request = ffi::MPI_Request;

/// A communicator of this crate's own, with all ranks: proof that MPI runs. Only the thread that
/// started it has it, which is what `MPI_THREAD_FUNNELED` asks for.
pub(super) struct World {
    comm: ffi::MPI_Comm,
    of_this_thread: PhantomData<*const ()>,
}

/// A message that is there to be received.
pub(super) struct Found {
    message: ffi::MPI_Message,
    status: ffi::MPI_Status,
}

impl Found {
    pub(super) fn from(&self) -> c_int {
        self.status.MPI_SOURCE
    }

    pub(super) fn tag(&self) -> c_int {
        self.status.MPI_TAG
    }

    /// How many elements of the payload's kind it has.
    pub(super) fn count(&self, floats: bool) -> Called<usize> {
        let mut count = 0;
        // SAFETY: the status is one that a probe has written.
        let code = unsafe { ffi::MPI_Get_count(&self.status, datatype(floats), &mut count) };
        check("read a message's length", code)?;
        usize::try_from(count).map_err(|_| format!("a message's length cannot be told: {count}"))
    }
}

impl World {
    /// Starts MPI, with errors that are returned; the largest tag is at least `most_tag`.
    pub(super) fn start(most_tag: c_int) -> Called<Self> {
        let mut has_run = 0;
        // SAFETY: may be called at any time; writes one integer.
        check("ask whether MPI runs", unsafe {
            ffi::MPI_Initialized(&mut has_run)
        })?;
        if has_run != 0 {
            return Err("MPI has been started before: a process can do so once".into());
        }
        // SAFETY: MPI does not run; it takes no arguments and writes one integer. The constants are
        // never written. The two communicators are valid from then on.
        unsafe {
            let funneled = ffi::RSMPI_THREAD_FUNNELED;
            let (argc, argv, mut provided) = (ptr::null_mut(), ptr::null_mut(), 0);
            let code = ffi::MPI_Init_thread(argc, argv, funneled, &mut provided);
            check("start MPI", code)?;
            if provided < funneled {
                return Err("this MPI was built without support for threads".into());
            }
            let (world, mut comm) = (ffi::RSMPI_COMM_WORLD, ffi::RSMPI_COMM_NULL);
            let code = ffi::MPI_Comm_set_errhandler(world, ffi::RSMPI_ERRORS_RETURN);
            check("have errors returned", code)?;
            let code = ffi::MPI_Comm_dup(world, &mut comm);
            check("make a communicator", code)?;
            let world = Self {
                comm,
                of_this_thread: PhantomData,
            };
            let limit = world.tag_limit()?;
            if limit < most_tag {
                return Err(format!(
                    "tags up to {most_tag} are needed; MPI's end at {limit}"
                ));
            }
            Ok(world)
        }
    }

    fn tag_limit(&self) -> Called<c_int> {
        let (mut limit, mut found) = (ptr::null_mut::<c_int>(), 0);
        let key = ffi::MPI_TAG_UB as c_int;
        // SAFETY: the value of this attribute is a pointer to an integer, which MPI keeps.
        unsafe {
            let to = ptr::addr_of_mut!(limit).cast::<c_void>();
            let code = ffi::MPI_Comm_get_attr(self.comm, key, to, &mut found);
            check("ask for the largest tag", code)?;
            Ok(if found == 0 { 0 } else { *limit })
        }
    }

    /// This process's rank, and the number of ranks.
    pub(super) fn place(&self) -> Called<[usize; 2]> {
        let [mut rank, mut size] = [0; 2];
        // SAFETY: the communicator is valid; each writes one integer.
        let codes = unsafe {
            [
                ffi::MPI_Comm_rank(self.comm, &mut rank),
                ffi::MPI_Comm_size(self.comm, &mut size),
            ]
        };
        codes
            .map(|code| check("ask for the rank", code))
            .into_iter()
            .collect::<Called<()>>()?;
        Ok([rank as usize, size as usize])
    }

    /// Begins to send.
    ///
    /// # Safety
    /// Until the request ends, the payload's elements stay where they are and as they are.
    pub(super) unsafe fn send(&self, to: usize, tag: c_int, payload: &Payload) -> Called<Request> {
        let (data, len, floats): (*const c_void, _, _) = match payload {
            Payload::Bytes(bytes) => (bytes.as_ptr().cast(), bytes.len(), false),
            Payload::Floats(floats) => (floats.as_ptr().cast(), floats.len(), true),
        };
        let to = c_int::try_from(to).map_err(|_| format!("there is no rank {to}"))?;
        let count = c_int::try_from(len).map_err(|_| {
            format!(
                "{len} elements in a message: must be at most {}",
                c_int::MAX
            )
        })?;
        // SAFETY: `count` elements of this type are at `data`, and stay there.
        unsafe {
            let (kind, mut request) = (datatype(floats), ffi::RSMPI_REQUEST_NULL);
            let code = ffi::MPI_Isend(data, count, kind, to, tag, self.comm, &mut request);
            check("send a message", code).map(|()| request)
        }
    }

    /// A message that has begun to arrive and has not been found before.
    pub(super) fn find(&self) -> Called<Option<Found>> {
        let mut found = 0;
        let mut status = MaybeUninit::uninit();
        // SAFETY: the communicator is valid; message and status are written if `found` is.
        unsafe {
            let mut message = ffi::RSMPI_MESSAGE_NULL;
            let (any, tag) = (ffi::RSMPI_ANY_SOURCE, ffi::RSMPI_ANY_TAG);
            let to = status.as_mut_ptr();
            let code = ffi::MPI_Improbe(any, tag, self.comm, &mut found, &mut message, to);
            check("look for messages", code)?;
            Ok((found != 0).then(|| Found {
                message,
                status: status.assume_init(),
            }))
        }
    }

    /// Begins to receive what was found.
    ///
    /// # Safety
    /// The payload is as long as the message, and until the request ends, its elements stay where
    /// they are and nobody looks at them.
    pub(super) unsafe fn receive(&self, found: Found, payload: &mut Payload) -> Called<Request> {
        let (data, len, floats): (*mut c_void, _, _) = match payload {
            Payload::Bytes(bytes) => (bytes.as_mut_ptr().cast(), bytes.len(), false),
            Payload::Floats(floats) => (floats.as_mut_ptr().cast(), floats.len(), true),
        };
        let mut message = found.message;
        // SAFETY: there is room for `len` elements of this type at `data`, and stays there. A message
        // has no more of them than fit an integer.
        unsafe {
            let (kind, mut request) = (datatype(floats), ffi::RSMPI_REQUEST_NULL);
            let code = ffi::MPI_Imrecv(data, len as c_int, kind, &mut message, &mut request);
            check("receive a message", code).map(|()| request)
        }
    }

    /// Goes on with what is under way. Says which requests have ended, and how; they are null then,
    /// and are passed over from then on.
    pub(super) fn go_on(&self, requests: &mut [Request]) -> Called<Vec<(usize, Called<()>)>> {
        let count = requests.len();
        let mut indices = vec![0; count];
        let mut statuses = Vec::<ffi::MPI_Status>::with_capacity(count);
        let mut ended = 0;
        // SAFETY: the requests are null or were begun in this world; there is room for as many indices
        // and statuses, of which the first `ended` are written.
        let code = unsafe {
            let (requests, to) = (requests.as_mut_ptr(), statuses.as_mut_ptr());
            let (count, indices) = (count as c_int, indices.as_mut_ptr());
            ffi::MPI_Testsome(count, requests, &mut ended, indices, to)
        };
        let in_status = code == ffi::MPI_ERR_IN_STATUS as c_int;
        if !in_status {
            check("go on with what is under way", code)?;
        }
        // "Undefined", which is negative, if all are null.
        let ended = usize::try_from(ended).unwrap_or(0);
        // SAFETY: as above.
        unsafe { statuses.set_len(ended) };
        let how = |status: ffi::MPI_Status| match in_status {
            // Only then is there a code.
            true => check("end a message", status.MPI_ERROR),
            false => Ok(()),
        };
        Ok(indices
            .into_iter()
            .zip(statuses)
            .map(|(i, s)| (i as usize, how(s)))
            .collect())
    }

    /// The end of MPI, which waits for all ranks.
    pub(super) fn finalize(self) {
        // SAFETY: MPI runs, and on this thread. Nothing of it is used afterwards.
        unsafe { ffi::MPI_Finalize() };
    }
}

/// MPI's type of a payload's elements.
fn datatype(floats: bool) -> ffi::MPI_Datatype {
    // SAFETY: constants, which are never written.
    unsafe {
        match floats {
            true => ffi::RSMPI_FLOAT,
            false => ffi::RSMPI_UINT8_T,
        }
    }
}

/// That a call has done what it should.
fn check(what: &str, code: c_int) -> Called<()> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    // No MPI has a longer text.
    let mut text = vec![0_u8; 4096];
    let mut len = 0;
    // SAFETY: may be called at any time; no text is longer than `MPI_MAX_ERROR_STRING`, which is below
    // the room there is.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast::<c_char>(), &mut len) };
    text.truncate(usize::try_from(len).unwrap_or(0));
    Err(format!("cannot {what}: {}", String::from_utf8_lossy(&text)))
}

// The room that `check` has.
const _: () = assert!(ffi::MPI_MAX_ERROR_STRING <= 4096);
