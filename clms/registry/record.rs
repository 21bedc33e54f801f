// SPDX-License-Identifier: GPL-2.0

//! A record, and how large it may be.

use core::ops::Deref;
use kernel::prelude::*;

/// The longest name.
pub const MAX_NAME: usize = 32;

/// The longest value.
pub const MAX_VALUE: usize = 256;

/// The most records.
pub const MAX_RECORDS: usize = 128;

/// A record's name: 1 to 32 bytes, none of them 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub(super) [u8; MAX_NAME]);

impl Name {
    /// That of these bytes.
    ///
    /// # Errors
    /// `EINVAL` none or a 0 among them; `ENAMETOOLONG`.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(EINVAL);
        }
        let mut name = [0; MAX_NAME];
        let room = name.get_mut(..bytes.len()).ok_or(ENAMETOOLONG)?;
        room.copy_from_slice(bytes);
        Ok(Self(name))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|b| *b == 0);
        self.0.get(..len.unwrap_or(MAX_NAME)).unwrap_or(&self.0)
    }
}

/// What a record holds: at most 256 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    len: usize,
    /// Zeros behind `len`.
    bytes: [u8; MAX_VALUE],
}

impl Value {
    /// These bytes.
    ///
    /// # Errors
    /// `EMSGSIZE`.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let mut all = [0; MAX_VALUE];
        let room = all.get_mut(..bytes.len()).ok_or(EMSGSIZE)?;
        room.copy_from_slice(bytes);
        Ok(Self {
            len: bytes.len(),
            bytes: all,
        })
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// A record as this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: Name,
    /// What it holds.
    pub value: Value,
    /// The number of the change that made it so, in the one order of all changes: no version comes twice.
    pub version: u64,
}
