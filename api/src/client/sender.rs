//! Batches of events in flight: a bounded number of requests at a time, and what became of each event.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::connection::{Ask, Connection, Ingested};
use super::error::ClientError;

/// Different reasons of rejects that are kept for the summary.
const REASONS_MAX: usize = 5;
/// A request is sent at this size even when it holds few events.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Events to be sent in one request: one JSON object a line.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The lines.
    pub(crate) body: Vec<u8>,
    /// How many.
    pub(crate) events: u64,
}

/// What became of the events so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Taken, and durable.
    pub(crate) accepted: u64,
    /// Not taken, for a reason that the server gave.
    pub(crate) rejected: u64,
    /// Sent, but the connection ended before the answer, and the server did not come back in time to say.
    pub(crate) unsure: u64,
    /// The first reasons of rejects, with how many events each.
    pub(crate) reasons: BTreeMap<String, u64>,
}

/// Sends batches to one path.
pub(crate) struct Sender {
    connection: Arc<Connection>,
    path: Arc<str>,
    batch_events_max: u64,
    in_flight: JoinSet<(u64, Result<Ingested, ClientError>)>,
    in_flight_max: usize,
    batch: Batch,
    counts: Counts,
}

impl Sender {
    /// Sends to `path`, with that many events a request and requests at a time.
    pub(crate) fn new(connection: Arc<Connection>, path: &str, args: &super::SendArgs) -> Self {
        Sender {
            connection,
            path: path.into(),
            batch_events_max: u64::from(args.batch),
            in_flight: JoinSet::new(),
            in_flight_max: usize::from(args.connections),
            batch: Batch::default(),
            counts: Counts::default(),
        }
    }

    /// The batch that is being filled; [`Sender::send_if_full`] after each addition.
    pub(crate) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// What became of the events so far.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Sends the batch when it is full; waits while too many requests are under way.
    pub(crate) async fn send_if_full(&mut self) -> Result<(), ClientError> {
        if self.batch.events >= self.batch_events_max || self.batch.body.len() >= BATCH_BYTES_MAX {
            self.send().await?;
        }
        Ok(())
    }

    /// Sends what the batch holds.
    ///
    /// # Errors
    /// The error of an earlier batch that was final.
    pub(crate) async fn send(&mut self) -> Result<(), ClientError> {
        while let Some(done) = self.in_flight.try_join_next() {
            self.record(done)?;
        }
        if self.batch.events == 0 {
            return Ok(());
        }
        while self.in_flight.len() >= self.in_flight_max {
            let Some(done) = self.in_flight.join_next().await else { break };
            self.record(done)?;
        }
        let batch = std::mem::take(&mut self.batch);
        let (connection, path) = (self.connection.clone(), self.path.clone());
        self.in_flight.spawn(async move {
            let ask = Ask::post_events(&path, Bytes::from(batch.body));
            (batch.events, connection.send_events(ask).await)
        });
        Ok(())
    }

    /// Sends the rest and waits for every answer; all are counted, and the first error is returned.
    pub(crate) async fn finish(&mut self) -> Result<(), ClientError> {
        let mut outcome = self.send().await;
        while let Some(done) = self.in_flight.join_next().await {
            let recorded = self.record(done);
            outcome = outcome.and(recorded);
        }
        outcome
    }

    fn record(
        &mut self,
        done: Result<(u64, Result<Ingested, ClientError>), tokio::task::JoinError>,
    ) -> Result<(), ClientError> {
        let (events, answer) = done.expect("a request is neither cancelled nor panics");
        match answer {
            Ok(ingested) => self.counts.add(ingested),
            Err(ClientError::Broken { .. }) => self.counts.unsure += events,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Counts {
    fn add(&mut self, ingested: Ingested) {
        self.accepted += ingested.accepted;
        self.rejected += ingested.rejected.len() as u64;
        for reject in ingested.rejected {
            if let Some(count) = self.reasons.get_mut(&reject.reason) {
                *count += 1;
            } else if self.reasons.len() < REASONS_MAX {
                self.reasons.insert(reject.reason, 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::RejectedEvent;
    use super::*;

    #[test]
    fn reasons_are_counted_and_bounded() {
        let mut counts = Counts::default();
        let rejected = (0..20).map(|index| RejectedEvent { index, reason: format!("reason {}", index % 7) }).collect();
        counts.add(Ingested { accepted: 3, rejected, replayed: false });
        assert_eq!((counts.accepted, counts.rejected, counts.reasons.len()), (3, 20, REASONS_MAX));
        assert_eq!(counts.reasons["reason 0"], 3);
    }
}
