//! The rootfs blob as tables, and back.

use puzzlefs_core::decode::decode;
use puzzlefs_core::digest::Digest;
use puzzlefs_core::encode::{Encoded, encode_parts};
use puzzlefs_core::limits::MANIFEST_VERSION;
use puzzlefs_core::tables::{Record, Tables, Vector};
use puzzlefs_core::{Error, Result};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::detach::detach;

/// A table whose bytes are not whole rows.
pub(crate) const NO_WHOLE_RECORDS: Error =
    Error::Contradiction("a table does not hold whole records");

/// A layer's inodes, entries, chunks, attributes and heap.
pub(crate) type Packed<B> = (B, B, B, B, B);

/// Version, digest table, verity table, layers.
type RawRootfs<'py> = (
    u64,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Vec<Packed<Bound<'py, PyBytes>>>,
);

/// Return the tables of a rootfs blob, the layers uppermost first.
#[pyfunction]
pub(crate) fn decode_rootfs<'py>(
    py: Python<'py>,
    rootfs: &Bound<'py, PyBytes>,
) -> PyResult<RawRootfs<'py>> {
    let rootfs = rootfs.as_bytes();
    let (digests, verity, vectors) = detach(py, || {
        let tables = decode(rootfs)?;
        let vectors: Vec<_> = tables.vectors.iter().map(pack).collect();
        Ok((
            tables.digests.concat(),
            Record::pack(&tables.verity),
            vectors,
        ))
    })?;
    let bytes = |data: Vec<u8>| PyBytes::new(py, &data);
    let vectors = vectors.into_iter().map(|vector| to_python(py, vector));
    Ok((
        MANIFEST_VERSION,
        bytes(digests),
        bytes(verity),
        vectors.collect(),
    ))
}

/// Return the rootfs blob for tables as `decode_rootfs` gives them.
#[pyfunction]
pub(crate) fn encode_rootfs<'py>(
    py: Python<'py>,
    digests: &Bound<'py, PyBytes>,
    verity: &Bound<'py, PyBytes>,
    vectors: Vec<Packed<Bound<'py, PyBytes>>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (digests, verity) = (digests.as_bytes(), verity.as_bytes());
    let vectors: Vec<Packed<&[u8]>> = vectors.iter().map(slices).collect();
    let encoded = detach(py, || encode_parts(tables(digests, verity, &vectors)?))?;
    blob(py, encoded)
}

/// Puts a rootfs blob together where Python keeps it: it may be long.
pub(crate) fn blob(py: Python<'_>, encoded: Encoded) -> PyResult<Bound<'_, PyBytes>> {
    let stream = py.import("io")?.call_method0("BytesIO")?;
    encoded.write(|piece| stream.call_method1("write", (piece,)).map(drop))?;
    Ok(stream.call_method0("getvalue")?.cast_into()?)
}

pub(crate) fn pack(vector: &Vector) -> Packed<Vec<u8>> {
    (
        Record::pack(&vector.inodes),
        Record::pack(&vector.entries),
        Record::pack(&vector.chunks),
        Record::pack(&vector.xattrs),
        vector.heap.clone(),
    )
}

/// Returns packed tables as Python takes them.
pub(crate) fn to_python<'py>(
    py: Python<'py>,
    (a, b, c, d, e): Packed<Vec<u8>>,
) -> Packed<Bound<'py, PyBytes>> {
    let bytes = |data: Vec<u8>| PyBytes::new(py, &data);
    (bytes(a), bytes(b), bytes(c), bytes(d), bytes(e))
}

pub(crate) fn slices<'a>((a, b, c, d, e): &'a Packed<Bound<'_, PyBytes>>) -> Packed<&'a [u8]> {
    (
        a.as_bytes(),
        b.as_bytes(),
        c.as_bytes(),
        d.as_bytes(),
        e.as_bytes(),
    )
}

pub(crate) fn tables(digests: &[u8], verity: &[u8], vectors: &[Packed<&[u8]>]) -> Result<Tables> {
    let (digests, rest) = digests.as_chunks::<{ size_of::<Digest>() }>();
    if !rest.is_empty() {
        return Err(Error::Contradiction(
            "the digest table does not hold whole digests",
        ));
    }
    let verity = Record::unpack(verity);
    Ok(Tables {
        digests: digests.to_vec(),
        verity: verity.ok_or(Error::Contradiction(
            "the verity table does not hold whole records",
        ))?,
        vectors: vectors.iter().map(vector).collect::<Result<_>>()?,
    })
}

pub(crate) fn vector(&(inodes, entries, chunks, xattrs, heap): &Packed<&[u8]>) -> Result<Vector> {
    Ok(Vector {
        inodes: table(inodes)?,
        entries: table(entries)?,
        chunks: table(chunks)?,
        xattrs: table(xattrs)?,
        heap: heap.to_vec(),
    })
}

fn table<R: Record>(bytes: &[u8]) -> Result<Vec<R>> {
    R::unpack(bytes).ok_or(NO_WHOLE_RECORDS)
}

/// Returns a table, packed where Python keeps it: it is long.
pub(crate) fn packed<'py, R: Record>(
    py: Python<'py>,
    table: &[R],
) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, table.len() * R::SIZE, |bytes| {
        let mut row = Vec::with_capacity(R::SIZE);
        for (place, record) in bytes.chunks_exact_mut(R::SIZE).zip(table) {
            row.clear();
            record.write(&mut row);
            place.copy_from_slice(&row);
        }
        Ok(())
    })
}
