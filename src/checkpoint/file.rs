//! Files of named tensors in the safetensors format.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Metadata as Header, TensorInfo};
use safetensors::Dtype;

use super::replace::replace_file;
use super::{checksum, Metadata};
use crate::error::{Error, Result};

/// The key of the metadata in the header, which no tensor can have.
const METADATA_KEY: &str = "__metadata__";

/// A tensor on its way to a file.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<u8>,
}

/// Writes the file of these tensors. The same tensors and metadata give the same bytes.
pub(super) fn write(path: &Path, mut entries: Vec<Entry>, metadata: &Metadata) -> Result<()> {
    // Wider types first keeps every tensor aligned to its type.
    entries.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let header = header(path, &entries, metadata)?;
    let mut head = (header.len() as u64).to_le_bytes().to_vec();
    head.extend(header);
    checksum::seal(&mut head, entries.iter().map(|entry| &entry.data[..]));
    replace_file(path, |file| {
        file.write_all(&head)?;
        for entry in &entries {
            file.write_all(&entry.data)?;
        }
        Ok(())
    })
}

/// The header's JSON, with sorted keys (the safetensors crate writes the metadata in the order of a
/// hash map, which differs from run to run), padded to a multiple of 8 bytes. Its checksum is still
/// to be set.
fn header(path: &Path, entries: &[Entry], metadata: &Metadata) -> Result<Vec<u8>> {
    let format = |what: String| Error::Format {
        path: path.to_owned(),
        what,
    };
    let mut tensors = Vec::with_capacity(entries.len());
    let mut json = BTreeMap::new();
    let mut metadata = metadata.clone();
    let placeholder = checksum::placeholder();
    if metadata
        .insert(checksum::KEY.to_owned(), placeholder)
        .is_some()
    {
        let what = format!("metadata `{}`: the file's own key", checksum::KEY);
        return Err(format(what));
    }
    json.insert(METADATA_KEY, serde_json::json!(metadata));
    let mut start = 0;
    for Entry {
        name,
        dtype,
        shape,
        data,
    } in entries
    {
        let info = TensorInfo {
            dtype: *dtype,
            shape: shape.clone(),
            data_offsets: (start, start + data.len()),
        };
        start += data.len();
        let value = serde_json::to_value(&info).map_err(|err| format(err.to_string()))?;
        if name == METADATA_KEY || json.insert(name, value).is_some() {
            return Err(Error::DuplicateName { name: name.clone() });
        }
        tensors.push((name.clone(), info));
    }
    // Checks that shapes, types and offsets fit together.
    Header::new(None, tensors).map_err(|err| format(err.to_string()))?;
    let mut header = serde_json::to_vec(&json).map_err(|err| format(err.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// First bytes of what is taken for a safetensors file by mistake. As the length of a header they
/// would be far too large.
const OTHER_FORMATS: [(&[u8], &str); 2] = [(b"PK\x03\x04", PYTORCH), (b"\x80\x02", PYTORCH)];
const PYTORCH: &str = "written by torch.save: convert it in Python, by \
    safetensors.torch.save_file(torch.load(FILE, weights_only=True), NEW_FILE)";

/// The bytes of a file, for [`parse`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|err| Error::io(path, "read", err))
}

/// A tensor in a file.
#[derive(Clone)]
pub(super) struct Stored<'a> {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) data: Cow<'a, [u8]>,
}

/// The tensors and the metadata in the bytes of a file.
pub(super) fn parse<'a>(
    path: &Path,
    bytes: &'a [u8],
) -> Result<(BTreeMap<String, Stored<'a>>, Metadata)> {
    let damaged = |what: String| Error::Format {
        path: path.to_owned(),
        what: format!("damaged or cut off ({} bytes): {what}", bytes.len()),
    };
    checksum::verify(bytes).map_err(damaged)?;
    let format = |err: safetensors::SafeTensorError| Error::Format {
        path: path.to_owned(),
        what: match OTHER_FORMATS
            .iter()
            .find(|(magic, _)| bytes.starts_with(magic))
        {
            Some((_, what)) => (*what).to_owned(),
            None => format!(
                "cut off, damaged or no safetensors file ({} bytes): {err}",
                bytes.len()
            ),
        },
    };
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(format)?;
    let tensors = safetensors::SafeTensors::deserialize(bytes)
        .map_err(format)?
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let stored = Stored {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                data: Cow::Borrowed(view.data()),
            };
            (name, stored)
        })
        .collect();
    let metadata = header.metadata().iter().flatten();
    let metadata = metadata.filter(|(key, _)| *key != checksum::KEY);
    let metadata = metadata.map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok((tensors, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        Entry {
            name: name.to_owned(),
            dtype: Dtype::F32,
            shape: vec![3],
            data: [1.5_f32, -2.0, 0.0]
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect(),
        }
    }

    fn metadata() -> Metadata {
        // Text that looks like the checksum's key is text.
        let text = "\"ssprop.checksum\":\"xxh3-64:0000000000000000";
        Metadata::from([("a".to_owned(), text.to_owned())])
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.safetensors");
        write(&path, vec![entry("weight"), entry("bias")], &metadata()).unwrap();
        let mut bytes = read(&path).unwrap();
        let (tensors, found) = parse(&path, &bytes).unwrap();
        assert_eq!(tensors.len(), 2);
        assert_eq!(found, metadata());
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let err = parse(&path, &bytes).map(drop).unwrap_err().to_string();
            let named = err.contains("net.safetensors") && err.contains("damaged");
            assert!(named, "bit {bit}: {err}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        parse(&path, &bytes).map(drop).unwrap();
    }

    #[test]
    fn a_file_without_a_checksum_is_read() {
        let data = [0; 4];
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![1], &data).unwrap();
        let bytes = safetensors::serialize([("a", view)], None).unwrap();
        let (tensors, metadata) = parse(Path::new("unused"), &bytes).unwrap();
        assert_eq!((tensors.len(), metadata.len()), (1, 0));
    }

    #[test]
    fn the_checksums_key_cannot_be_taken() {
        let metadata = Metadata::from([(checksum::KEY.to_owned(), String::new())]);
        let err = write(Path::new("unused"), Vec::new(), &metadata).unwrap_err();
        assert!(err.to_string().contains(checksum::KEY), "{err}");
    }

    #[test]
    fn files_of_torch_save_are_named() {
        for bytes in [
            &b"PK\x03\x04 and so on"[..],
            b"\x80\x02}q\x00X\x0a\x00\x00\x00",
        ] {
            let err = parse(Path::new("net.pt"), bytes).map(drop).unwrap_err();
            assert!(err.to_string().contains("torch.save"), "{err}");
        }
    }

    #[test]
    fn two_tensors_of_one_name_are_refused() {
        let path = Path::new("unused");
        for names in [["a", "a"], ["a", METADATA_KEY]] {
            let err = header(path, &names.map(entry), &Metadata::new()).unwrap_err();
            assert!(matches!(&err, Error::DuplicateName { name } if name == names[1]));
        }
    }
}
