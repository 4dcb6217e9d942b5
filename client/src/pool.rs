//! Connections of a client, one for each shard that it has to do with, made when first needed and
//! made again when they have ended.
//!
//! However many callers need a connection that is not there, one attempt is made for all of them, by a
//! task of its own, so that no caller's leaving stops it. The table stands under a mutex that is held
//! for a look and never across an await.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tenpin_protocol::ANY_SHARD;
use tokio::sync::watch;
use tracing::Instrument;

use crate::connection::Connection;
use crate::error::{Error, Result};

type Outcome = Option<Result<Arc<Connection>>>;

#[derive(Debug)]
enum Place {
    Connecting(watch::Receiver<Outcome>),
    Ready(Arc<Connection>),
}

/// The connections of one client.
#[derive(Debug)]
pub(crate) struct Pool {
    address: String,
    timeout: Duration,
    requests_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the shard that was asked for; [`ANY_SHARD`] is the one that the broker chose.
    places: BTreeMap<u16, Place>,
    /// Addresses that the broker gave for single shards.
    addresses: BTreeMap<u16, String>,
    /// How many shards the broker has; 0 before it has said so.
    shard_count: u16,
    closed: bool,
}

impl Pool {
    pub fn new(address: String, timeout: Duration, requests_max: usize) -> Arc<Self> {
        Arc::new(Self { address, timeout, requests_max, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A connection to this shard, made if there is none.
    pub async fn connection(self: &Arc<Self>, shard: u16) -> Result<Arc<Connection>> {
        let mut attempt = {
            let mut state = self.lock();
            if state.closed {
                return Err(Error::Closed);
            }
            // A handle may name any shard; one that the broker does not have is for it to judge.
            let shard = if shard < state.shard_count { shard } else { ANY_SHARD };
            match state.places.get(&shard) {
                Some(Place::Ready(connection)) if !connection.has_ended() => {
                    return Ok(Arc::clone(connection));
                }
                // One that was made on a runtime that has ended comes to nothing.
                Some(Place::Connecting(attempt)) if attempt.has_changed().is_ok() => attempt.clone(),
                _ => self.begin_attempt(&mut state, shard),
            }
        };
        let ended = |_| Error::Disconnected { reason: "the runtime that tried to connect has ended".into() };
        let outcome = attempt.wait_for(Option::is_some).await.map_err(ended)?;
        outcome.clone().unwrap_or(Err(Error::Closed))
    }

    fn begin_attempt(self: &Arc<Self>, state: &mut State, shard: u16) -> watch::Receiver<Outcome> {
        let (tell, attempt) = watch::channel(None);
        state.places.insert(shard, Place::Connecting(attempt.clone()));
        let address = state.addresses.get(&shard).unwrap_or(&self.address).clone();
        let pool = Arc::clone(self);
        let span = tracing::debug_span!(parent: None, "tenpin_connect", address, shard);
        let connecting = async move {
            let opened = Connection::open(&address, shard, pool.requests_max);
            let result = match tokio::time::timeout(pool.timeout, opened).await {
                Ok(result) => result.map(Arc::new),
                Err(_) => {
                    let reason = format!("no answer within {:.1} s", pool.timeout.as_secs_f64());
                    Err(Error::Connect { address: address.clone(), reason })
                }
            };
            match &result {
                Ok(_) => tracing::debug!("connected"),
                Err(error) => tracing::debug!(%error, "not connected"),
            }
            pool.end_attempt(shard, &result);
            // Nobody may be left to hear it.
            let _ = tell.send(Some(result));
        };
        tokio::spawn(connecting.instrument(span));
        attempt
    }

    fn end_attempt(&self, shard: u16, result: &Result<Arc<Connection>>) {
        let mut state = self.lock();
        let Ok(connection) = result else {
            state.places.remove(&shard);
            let is_connected = matches!(
                state.places.get(&ANY_SHARD),
                Some(Place::Ready(connection)) if !connection.has_ended()
            );
            if shard != ANY_SHARD && !is_connected {
                // The broker may have come back with other shards: it is asked anew which those are.
                state.shard_count = 0;
                state.addresses.clear();
            }
            return;
        };
        if state.closed {
            state.places.remove(&shard);
            return connection.close();
        }
        for (shard, host, port) in &connection.agreement.addresses {
            if let Some(address) = own_address(&self.address, host, *port) {
                state.addresses.insert(*shard, address);
            }
        }
        state.places.insert(shard, Place::Ready(Arc::clone(connection)));
        state.shard_count = connection.agreement.shard_count;
        // A connection that the broker chose is as good as any for the shard that it came to.
        let came_to = connection.agreement.shard;
        let is_needed = match state.places.get(&came_to) {
            None => true,
            Some(Place::Ready(before)) => before.has_ended(),
            Some(Place::Connecting(_)) => false,
        };
        if shard == ANY_SHARD && is_needed {
            state.places.insert(came_to, Place::Ready(Arc::clone(connection)));
        }
    }

    /// Ends all connections; calls made from now on are refused.
    pub fn close(&self) {
        let places = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.places)
        };
        for place in places.into_values() {
            if let Place::Ready(connection) = place {
                connection.close();
            }
        }
    }
}

/// The address of a shard that has one of its own: what is left out is as in the client's.
fn own_address(address: &str, host: &str, port: u16) -> Option<String> {
    if host.is_empty() && port == 0 {
        return None;
    }
    let (own_host, own_port) = address.rsplit_once(':')?;
    let host = if host.is_empty() { own_host } else { host };
    Some(if port == 0 { format!("{host}:{own_port}") } else { format!("{host}:{port}") })
}

#[cfg(test)]
mod tests {
    use super::own_address;

    #[test]
    fn a_shards_address_is_completed_from_the_clients() {
        assert_eq!(own_address("one:7010", "", 0), None);
        assert_eq!(own_address("one:7010", "", 7011).as_deref(), Some("one:7011"));
        assert_eq!(own_address("one:7010", "two", 0).as_deref(), Some("two:7010"));
        assert_eq!(own_address("[::1]:7010", "two", 9).as_deref(), Some("two:9"));
    }
}
