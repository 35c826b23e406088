//! JSON documents, without Python's module for them: loading that takes longer than a manifest's parse.

use std::fmt;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyList, PyString};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Return the value of a JSON document, the very one that `json.loads` gives.
///
/// Raises `ValueError` for what is no JSON, `RecursionError` for what is nested too deep.
#[pyfunction]
pub(crate) fn parse_json<'py>(data: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    let py = data.py();
    let mut document = serde_json::Deserializer::from_slice(data.as_bytes());
    let parsed = Value(py).deserialize(&mut document);
    match parsed.and_then(|value| document.end().map(|()| value)) {
        Ok(value) => Ok(value),
        // Fractions, large numbers, other encodings, and what is wrong with all the rest.
        Err(_) => py.import("json")?.call_method1("loads", (data,)),
    }
}

/// Makes Python's objects of a document's values: null, booleans, numbers of 64 bits, strings, lists
/// and dictionaries of those. Fails for any other number.
#[derive(Clone, Copy)]
struct Value<'py>(Python<'py>);

impl<'de, 'py> DeserializeSeed<'de> for Value<'py> {
    type Value = Bound<'py, PyAny>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, 'py> Visitor<'de> for Value<'py> {
    type Value = Bound<'py, PyAny>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value without fractions")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(self.0.None().into_bound(self.0))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(PyBool::new(self.0, value).to_owned().into_any())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(PyInt::new(self.0, value).into_any())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(PyInt::new(self.0, value).into_any())
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(PyString::new(self.0, value).into_any())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let list = PyList::empty(self.0);
        while let Some(value) = values.next_element_seed(self)? {
            list.append(value).map_err(A::Error::custom)?;
        }
        Ok(list.into_any())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let dictionary = PyDict::new(self.0);
        while let Some((key, value)) = entries.next_entry_seed(self, self)? {
            dictionary.set_item(key, value).map_err(A::Error::custom)?;
        }
        Ok(dictionary.into_any())
    }
}
