//! Functions of libzfs that are called here, and where they are.
//!
//! The library is loaded when the first of them is needed, and only in the version that declares them so: a
//! program that needs none does not wait for its libraries, and with another version zfs(8) does the work.

#![expect(unsafe_code, reason = "a C library is loaded")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;

pub(super) type Found = extern "C" fn(*mut c_void, *mut c_void) -> c_int;
pub(super) type Iterate = unsafe extern "C" fn(*mut c_void, Found, *mut c_void) -> c_int;

/// Declares functions of a library, and how they are found in it.
macro_rules! functions {
    ($($name:ident: ($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// Functions of libzfs and of libzfs_core, which it brings, as their headers in OpenZFS 2.0 to 2.2
        /// declare them (`libzfs.so.4`).
        pub(super) struct Library {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Library {
            /// Finds them; `None` if one is missing.
            ///
            /// # Safety
            ///
            /// The library is one that declares them so.
            unsafe fn of(library: *mut c_void) -> Option<Self> {
                let symbol = |name: &CStr| {
                    // SAFETY: the library is loaded and stays so.
                    let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
                    (!symbol.is_null()).then_some(symbol)
                };
                Some(Self {
                    $($name: {
                        let name = CString::new(stringify!($name)).ok()?;
                        let symbol = symbol(&name)?;
                        // SAFETY: it is a function of this type, by the library's declaration.
                        unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                            >(symbol)
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    libzfs_init: () -> *mut c_void;
    libzfs_fini: (*mut c_void);
    lzc_destroy_snaps: (*mut c_void, c_int, *mut *mut c_void) -> c_int;
    libzfs_error_action: (*mut c_void) -> *const c_char;
    libzfs_error_description: (*mut c_void) -> *const c_char;
    zfs_open: (*mut c_void, *const c_char, c_int) -> *mut c_void;
    zfs_close: (*mut c_void);
    zfs_get_name: (*mut c_void) -> *const c_char;
    zfs_get_type: (*mut c_void) -> c_int;
    zfs_get_all_props: (*mut c_void) -> *mut c_void;
    zfs_iter_filesystems: (*mut c_void, Found, *mut c_void) -> c_int;
    zfs_iter_snapshots: (*mut c_void, c_int, Found, *mut c_void, u64, u64) -> c_int;
    zfs_name_to_prop: (*const c_char) -> c_int;
    zfs_prop_get: (
        *mut c_void, c_int, *mut c_char, usize, *mut c_int, *mut c_char, usize, c_int
    ) -> c_int;
    zfs_prop_visible: (c_int) -> c_int;
    zpool_open_canfail: (*mut c_void, *const c_char) -> *mut c_void;
    zpool_close: (*mut c_void);
    zpool_name_to_prop: (*const c_char) -> c_int;
    zpool_get_prop: (*mut c_void, c_int, *mut c_char, usize, *mut c_int, c_int) -> c_int;
}

impl Library {
    /// The library, loaded once.
    pub(super) fn get() -> Option<&'static Self> {
        static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
        let load = || {
            // SAFETY: of this name is the library that declares the functions so; it is never unloaded.
            unsafe {
                let library = libc::dlopen(c"libzfs.so.4".as_ptr(), libc::RTLD_LAZY);
                if library.is_null() { None } else { Self::of(library) }
            }
        };
        LIBRARY.get_or_init(load).as_ref()
    }
}

// Of zfs_type_t in include/sys/fs/zfs.h.
pub(super) const FILE_SYSTEM: c_int = 1;
pub(super) const SNAPSHOT: c_int = 2;
pub(super) const VOLUME: c_int = 4;
// Of zprop_source_t there.
pub(super) const DEFAULT: c_int = 2;
pub(super) const TEMPORARY: c_int = 4;
pub(super) const LOCAL: c_int = 8;
pub(super) const INHERITED: c_int = 16;
pub(super) const RECEIVED: c_int = 32;
