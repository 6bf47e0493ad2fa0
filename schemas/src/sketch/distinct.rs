//! The number of distinct values: exact while they are few, then a HyperLogLog.
//!
//! Values come as 64-bit hashes. Up to [`EXACT_MAX`] of them are kept themselves (two of them are equal by chance with a
//! probability of 3 × 10^−14). Then 2^14 registers each hold the highest rank, the number of leading zeros plus one, of the
//! hashes that fall to them. The estimate is Ertl's improved raw estimator ("New cardinality estimation algorithms for
//! HyperLogLog sketches", 2017), which needs no tables of corrections; its standard error is 1.04 / √2^14 = 0.81 %.
//!
//! # Invariants
//!
//! 1. Hashes are sorted, each once, [`EXACT_MAX`] at most.
//! 2. There are registers if and only if more than [`EXACT_MAX`] distinct hashes were added, here or in what was merged;
//!    registers are the maximum over all of them. So the form too depends on the set of hashes only.

use super::codec::{Reader, put_number};
use super::{SmallSorted, spilled_bytes};
use crate::SchemaError;

/// How many distinct values are counted exactly.
pub const EXACT_MAX: usize = 1_024;

/// The upper bits of a hash that say its register.
pub const INDEX_BITS: u32 = 14;
/// How many registers there are.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// The highest rank.
pub const RANK_MAX: u8 = (64 - INDEX_BITS) as u8 + 1;
const RANK_BITS: usize = 6;
/// Up to here the occupied registers are encoded one by one, beyond it all of them, packed.
const LISTED_MAX: usize = REGISTERS / 4;

const ENCODING_EXACT: u8 = 1;
const ENCODING_LISTED: u8 = 2;
const ENCODING_PACKED: u8 = 3;

/// The number of distinct values, by their hashes.
///
/// Hashes must be spread evenly over 64 bits, as those of XXH3 are, and be made alike everywhere. 16 KiB at most.
///
/// ```
/// use streamgauge_schemas::sketch::Distinct;
/// use xxhash_rust::xxh3::xxh3_64;
/// let mut users = Distinct::default();
/// ["ada", "grace", "ada"].iter().for_each(|user| users.add_hash(xxh3_64(user.as_bytes())));
/// assert_eq!((users.estimate(), users.is_exact()), (2, true));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distinct {
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Exact(SmallSorted),
    Registers(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct { form: Form::Exact(SmallSorted::new()) }
    }
}

impl Distinct {
    /// Adds the hash of a value.
    #[inline]
    pub fn add_hash(&mut self, hash: u64) {
        match &mut self.form {
            Form::Exact(hashes) => {
                if let Err(at) = hashes.binary_search(&hash) {
                    if hashes.len() < EXACT_MAX {
                        hashes.insert(at, hash);
                    } else {
                        self.registers();
                        self.add_hash(hash);
                    }
                }
            }
            Form::Registers(registers) => raise(registers, hash),
        }
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.form, &other.form) {
            (Form::Exact(into), Form::Exact(from)) if from.len() > 8 => {
                let mut hashes = Vec::with_capacity(into.len() + from.len());
                hashes.extend_from_slice(into);
                hashes.extend_from_slice(from);
                hashes.sort(); // a merge of two runs
                hashes.dedup();
                *into = SmallSorted::from_vec(hashes);
                into.shrink_to_fit();
                if into.len() > EXACT_MAX {
                    self.registers();
                }
            }
            (_, Form::Exact(from)) => from.iter().for_each(|hash| self.add_hash(*hash)),
            (_, Form::Registers(from)) => {
                self.registers().iter_mut().zip(from.iter()).for_each(|(held, rank)| *held = (*held).max(*rank));
            }
        }
    }

    /// How many distinct values were added; an estimate unless [`Distinct::is_exact`].
    #[must_use]
    pub fn estimate(&self) -> u64 {
        match &self.form {
            Form::Exact(hashes) => hashes.len() as u64,
            Form::Registers(registers) => (estimate(registers).round() as u64).max(EXACT_MAX as u64 + 1), // invariant 2
        }
    }

    /// Whether the estimate is the exact number.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        matches!(self.form, Form::Exact(_))
    }

    /// The bytes held outside of the sketch itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Exact(hashes) => spilled_bytes(hashes),
            Form::Registers(registers) => registers.len(),
        }
    }

    /// Appends the encoding, in the shortest of three forms by the number of values. The byte 1, the number of hashes in
    /// LEB128, and the hashes ascending, 8 bytes each, little-endian. Or the byte 2, the number of occupied registers and a
    /// register its distance from the one before in LEB128 and its rank in a byte. Or the byte 3 and all ranks in 6 bits
    /// each, four to three bytes, the first in the low bits.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.form {
            Form::Exact(hashes) => {
                out.push(ENCODING_EXACT);
                put_number(out, hashes.len() as u64);
                hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
            }
            Form::Registers(registers) => {
                let occupied = registers.iter().filter(|rank| **rank > 0).count();
                if occupied > LISTED_MAX {
                    out.push(ENCODING_PACKED);
                    for four in registers.chunks_exact(4) {
                        let packed = four.iter().rev().fold(0, |bits, rank| bits << RANK_BITS | u32::from(*rank));
                        out.extend_from_slice(&packed.to_le_bytes()[..3]);
                    }
                    return;
                }
                out.push(ENCODING_LISTED);
                put_number(out, occupied as u64);
                let mut last = 0;
                for (at, rank) in registers.iter().enumerate().filter(|(_, rank)| **rank > 0) {
                    put_number(out, (at - last) as u64);
                    out.push(*rank);
                    last = at;
                }
            }
        }
    }

    /// Reads an encoding.
    ///
    /// # Errors
    ///
    /// [`SchemaError::Encoding`] if the bytes are not what [`Distinct::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        let mut from = Reader::new("a sketch of distinct values", bytes);
        let form = match from.byte()? {
            ENCODING_EXACT => Form::Exact(decode_hashes(&mut from)?),
            ENCODING_LISTED => Form::Registers(decode_listed(&mut from)?),
            ENCODING_PACKED => Form::Registers(decode_packed(&mut from)?),
            _ => return Err(from.error("the form is not known; it was written by a newer version")),
        };
        from.end()?;
        Ok(Distinct { form })
    }

    /// The registers, made from the hashes if there are none yet. The caller adds what makes them necessary.
    fn registers(&mut self) -> &mut [u8; REGISTERS] {
        if let Form::Exact(hashes) = &self.form {
            let mut registers = Box::new([0; REGISTERS]);
            hashes.iter().for_each(|hash| raise(&mut registers, *hash));
            self.form = Form::Registers(registers);
        }
        match &mut self.form {
            Form::Registers(registers) => registers,
            Form::Exact(_) => unreachable!("it was just replaced"),
        }
    }
}

#[inline]
fn raise(registers: &mut [u8; REGISTERS], hash: u64) {
    let rank = ((hash << INDEX_BITS) | (1 << (INDEX_BITS - 1))).leading_zeros() as u8 + 1;
    let held = &mut registers[(hash >> (64 - INDEX_BITS)) as usize];
    *held = (*held).max(rank);
}

/// Ertl's improved raw estimator, from how many registers hold each rank.
fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    const ALPHA_INFINITY: f64 = 0.5 / std::f64::consts::LN_2;
    let mut with_rank = [0u32; RANK_MAX as usize + 1];
    registers.iter().for_each(|rank| with_rank[usize::from(*rank)] += 1);
    let registers = REGISTERS as f64;
    let full = f64::from(with_rank[usize::from(RANK_MAX)]);
    let mut sum = registers * tau((registers - full) / registers);
    for rank in (1..RANK_MAX).rev() {
        sum = 0.5 * (sum + f64::from(with_rank[usize::from(rank)]));
    }
    sum += registers * sigma(f64::from(with_rank[0]) / registers);
    ALPHA_INFINITY * registers * registers / sum
}

/// The correction for registers that nothing fell to: x + Σ x^(2^k) 2^(k−1).
fn sigma(mut x: f64) -> f64 {
    let (mut weight, mut sum) = (1.0, x);
    while x < 1.0 {
        x *= x;
        let next = sum + x * weight;
        if next == sum {
            return sum;
        }
        (sum, weight) = (next, 2.0 * weight);
    }
    f64::INFINITY
}

/// The correction for registers at the highest rank: (1 − x − Σ (1 − x^(2^−k))² 2^−k) / 3.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut weight, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        weight *= 0.5;
        let next = sum - (1.0 - x) * (1.0 - x) * weight;
        if next == sum {
            return sum / 3.0;
        }
        sum = next;
    }
}

fn decode_hashes(from: &mut Reader<'_>) -> Result<SmallSorted, SchemaError> {
    let length = from.count(EXACT_MAX)?;
    let mut hashes = SmallSorted::with_capacity(length.min(from.remaining() / 8));
    for _ in 0..length {
        let hash = u64::from_le_bytes(from.take(8)?.try_into().expect("eight bytes were taken"));
        if hashes.last().is_some_and(|last| *last >= hash) {
            return Err(from.error("hashes are not ascending"));
        }
        hashes.push(hash);
    }
    Ok(hashes)
}

fn decode_listed(from: &mut Reader<'_>) -> Result<Box<[u8; REGISTERS]>, SchemaError> {
    let mut registers = Box::new([0; REGISTERS]);
    let mut last = 0;
    for listed in 0..from.count(LISTED_MAX)? {
        let distance = from.count(REGISTERS - 1)?;
        let at = last + distance;
        let rank = from.byte()?;
        if at >= REGISTERS || (listed > 0 && distance == 0) || !(1..=RANK_MAX).contains(&rank) {
            return Err(from.error("a register or its rank cannot be"));
        }
        (registers[at], last) = (rank, at);
    }
    Ok(registers)
}

fn decode_packed(from: &mut Reader<'_>) -> Result<Box<[u8; REGISTERS]>, SchemaError> {
    let mut registers = Box::new([0; REGISTERS]);
    for four in registers.chunks_exact_mut(4) {
        let bytes = from.take(3)?;
        let packed = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        for (at, rank) in four.iter_mut().enumerate() {
            *rank = (packed >> (at * RANK_BITS)) as u8 & ((1 << RANK_BITS) - 1);
            if *rank > RANK_MAX {
                return Err(from.error("a rank cannot be"));
            }
        }
    }
    if registers.iter().filter(|rank| **rank > 0).count() <= LISTED_MAX {
        return Err(from.error("so few registers are written one by one"));
    }
    Ok(registers)
}
