//! Points of a save at which the tests kill the process.

/// Where a save stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// The directory with its temporary name is there and empty.
    Created,
    /// The caller has written its files.
    Written,
    /// The files are on the disk and hashed.
    Hashed,
    /// The manifest is there.
    ManifestWritten,
    /// A checkpoint of the same step has been moved aside.
    MovedAside,
    /// The checkpoint has its name.
    Renamed,
    /// The oldest checkpoint has been renamed and is about to be deleted.
    Trashed,
}

/// Nothing, outside of the tests of this crate.
#[cfg(not(test))]
pub(crate) fn reached(_point: Point) {}

#[cfg(test)]
pub(crate) use crate::tests::crash::reached;
