//! The bytes of a file: which of them are durable, and what a power failure may leave of the others.

use std::fs::{self, OpenOptions};
use std::path::Path;

use anyhow::ensure;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::Loss;

const SECTOR_BYTES: u64 = 512;
/// The most that a file is longer than what was written to it.
const BEYOND_BYTES_MAX: u64 = 5_000;

/// What is known of a file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) len: u64,
    /// What is below is durable.
    pub(super) durable: u64,
    /// What was cut off and may come back, and where it began.
    pub(super) cut: (u64, Vec<u8>),
}

impl Content {
    /// Notes a cut; of what an earlier one took away, what lies behind may come back, too.
    pub(super) fn cut(&mut self, len: u64, bytes: &[u8]) {
        let (at, before) = std::mem::take(&mut self.cut);
        let end = len + bytes.len() as u64;
        let mut kept = bytes.to_vec();
        if at <= end {
            kept.extend(before.iter().skip((end - at) as usize));
        }
        self.cut = (len, kept);
        (self.len, self.durable) = (len, self.durable.min(len));
    }

    /// Leaves of a file what a power failure may, and says how; everything is durable afterwards.
    pub(super) fn tear(&mut self, path: &Path, loss: Loss, random: &mut StdRng) -> anyhow::Result<Option<String>> {
        let whole = fs::read(path)?;
        let durable = self.durable.min(whole.len() as u64);
        ensure!(durable == self.durable, "{} has lost {} synced bytes", path.display(), self.durable - durable);
        let (cut_at, cut) = std::mem::take(&mut self.cut);
        let mut bytes = whole.clone();
        let mut did = Vec::new();
        if !cut.is_empty() && (loss == Loss::All || (loss == Loss::Some && random.random_bool(0.5))) {
            let end = cut_at as usize + cut.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[cut_at as usize..end].copy_from_slice(&cut);
            did.push(format!("what was cut off at {cut_at} is back"));
        }
        if whole.len() as u64 > durable {
            did.extend(lose(&mut bytes, durable, loss, random));
        }
        if bytes != whole {
            ensure!(bytes[..durable as usize] == whole[..durable as usize], "what was synced stays (invariant 1)");
            fs::write(path, &bytes)?;
            OpenOptions::new().read(true).open(path)?.sync_all()?;
        }
        (self.len, self.durable) = (bytes.len() as u64, bytes.len() as u64);
        Ok((!did.is_empty())
            .then(|| format!("{} bytes not synced from {durable}: {}", whole.len() as u64 - durable, did.join(", "))))
    }
}

/// Loses bytes from `durable` on.
fn lose(bytes: &mut Vec<u8>, durable: u64, loss: Loss, random: &mut StdRng) -> Option<String> {
    let unsynced = bytes.len() as u64 - durable;
    match loss {
        Loss::Nothing => None,
        Loss::All => {
            bytes.truncate(durable as usize);
            Some("none of them arrived".to_owned())
        }
        Loss::Data => {
            bytes[durable as usize..].fill(0);
            Some("only their length arrived".to_owned())
        }
        Loss::Some => match random.random_range(0..6) {
            0 => None, // all of it arrived
            1 => {
                bytes.truncate(random.random_range(durable..durable + unsynced) as usize);
                Some(format!("{} of them arrived", bytes.len() as u64 - durable))
            }
            2 => {
                let zeros = random.random_range(1..BEYOND_BYTES_MAX);
                bytes.resize(bytes.len() + zeros as usize, 0);
                Some(format!("{zeros} zeros behind them"))
            }
            way => Some(lose_sectors(bytes, durable, way == 3, random)),
        },
    }
}

/// Replaces some of the sectors, at least one, by zeros or by anything.
fn lose_sectors(bytes: &mut [u8], durable: u64, garbage: bool, random: &mut StdRng) -> String {
    let end = bytes.len() as u64;
    let mut sectors: Vec<u64> = (durable / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)).collect();
    sectors.shuffle(random);
    let lost = random.random_range(1..=sectors.len());
    for sector in &sectors[..lost] {
        let (from, to) = ((sector * SECTOR_BYTES).max(durable), ((sector + 1) * SECTOR_BYTES).min(end));
        let sector = &mut bytes[from as usize..to as usize];
        if garbage { random.fill(sector) } else { sector.fill(0) }
    }
    format!("{lost} of {} sectors {}", sectors.len(), if garbage { "are garbage" } else { "are zeros" })
}
