//! Limits per client, concurrent and per second, so that one client cannot starve the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client_address::ClientGroup;
use crate::config::Limits;

/// Clients that are remembered at once; about 6 MiB.
const MAX_CLIENTS: usize = 1 << 16;
/// The least time between two searches of the table for idle clients.
const SWEEP: Duration = Duration::from_secs(1);

/// Counts requests by client.
pub(crate) struct ClientLimits {
    /// 0 for no limit.
    concurrent: usize,
    /// 0 for no limit.
    per_second: f64,
    burst: f64,
    on_loopback: bool,
    max_clients: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    clients: HashMap<ClientGroup, Client>,
    /// Shared by all clients beyond the table's capacity: so many addresses at once are treated as an attack.
    others: Client,
    swept: Option<Instant>,
}

#[derive(Clone, Copy, Default)]
struct Client {
    in_flight: usize,
    /// What is missing from a full bucket of tokens, at the time of `seen`.
    missing: f64,
    seen: Option<Instant>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Exceeded {
    Concurrent {
        limit: usize,
    },
    Rate {
        per_second: f64,
        retry_after: Duration,
    },
}

/// A client's slot, released when the request is done.
#[derive(Debug)]
pub(crate) struct ClientPlace {
    limits: Arc<ClientLimits>,
    /// `None` for the shared place.
    group: Option<ClientGroup>,
}

impl std::fmt::Debug for ClientLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientLimits").finish_non_exhaustive()
    }
}

impl ClientLimits {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            concurrent: limits.per_client_concurrent,
            per_second: limits.per_client_per_second,
            burst: limits.per_client_burst as f64,
            on_loopback: limits.per_client_on_loopback,
            max_clients: MAX_CLIENTS,
            table: Mutex::default(),
        }
    }

    /// A place for one more request of a client; `None` where no limit applies to it.
    ///
    /// # Errors
    /// The limit that the request would exceed.
    pub(crate) fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        now: Instant,
    ) -> Result<Option<ClientPlace>, Exceeded> {
        let unlimited = self.concurrent == 0 && self.per_second == 0.0;
        if unlimited || (client.is_loopback() && !self.on_loopback) {
            return Ok(None);
        }
        let group = ClientGroup::from(client);
        let mut table = self.lock();
        let known = table.clients.contains_key(&group);
        if !known && table.clients.len() >= self.max_clients {
            self.sweep(&mut table, now);
        }
        let has_room = known || table.clients.len() < self.max_clients;
        let entry = if has_room {
            table.clients.entry(group).or_default()
        } else {
            &mut table.others
        };
        self.take(entry, now)?;
        Ok(Some(ClientPlace {
            limits: Arc::clone(self),
            group: has_room.then_some(group),
        }))
    }

    fn take(&self, client: &mut Client, now: Instant) -> Result<(), Exceeded> {
        if self.concurrent > 0 && client.in_flight >= self.concurrent {
            let limit = self.concurrent;
            return Err(Exceeded::Concurrent { limit });
        }
        if self.per_second > 0.0 {
            let missing = self.missing(client, now);
            let too_many = missing + 1.0 - self.burst;
            // A little over is rounding, not a request.
            if too_many > 1e-6 {
                return Err(Exceeded::Rate {
                    per_second: self.per_second,
                    retry_after: Duration::from_secs_f64((too_many / self.per_second).min(3600.0)),
                });
            }
            client.missing = missing + 1.0;
            client.seen = Some(now);
        }
        client.in_flight += 1;
        Ok(())
    }

    /// What is missing from a client's bucket now.
    fn missing(&self, client: &Client, now: Instant) -> f64 {
        let passed = client.seen.map_or(Duration::MAX, |seen| {
            now.checked_duration_since(seen).unwrap_or_default()
        });
        (client.missing - passed.as_secs_f64() * self.per_second).max(0.0)
    }

    /// Removes clients without state: no request in progress and a full bucket.
    fn sweep(&self, table: &mut Table, now: Instant) {
        let too_soon = |swept: Instant| now.saturating_duration_since(swept) < SWEEP;
        if table.swept.is_some_and(too_soon) {
            return;
        }
        table.swept = Some(now);
        table
            .clients
            .retain(|_, client| client.in_flight > 0 || self.missing(client, now) > 0.0);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut table = self.limits.lock();
        let Table {
            clients, others, ..
        } = &mut *table;
        let client = match &self.group {
            Some(group) => clients.get_mut(group),
            None => Some(others),
        };
        if let Some(client) = client {
            client.in_flight = client.in_flight.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(concurrent: usize, per_second: f64, burst: usize) -> Arc<ClientLimits> {
        Arc::new(ClientLimits::new(&Limits {
            per_client_concurrent: concurrent,
            per_client_per_second: per_second,
            per_client_burst: burst,
            ..Limits::default()
        }))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const ALICE: &str = "198.51.100.1";
    const BOB: &str = "198.51.100.2";

    #[test]
    fn concurrent_requests_are_counted_by_client() {
        let limits = limits(2, 0.0, 1);
        let now = Instant::now();
        let ask = |client| limits.admit(ip(client), now);
        let (first, _second) = (ask(ALICE).unwrap(), ask(ALICE).unwrap());
        assert_eq!(ask(ALICE).unwrap_err(), Exceeded::Concurrent { limit: 2 });
        assert!(ask(BOB).unwrap().is_some());
        drop(first);
        assert!(ask(ALICE).is_ok());
    }

    #[test]
    fn a_bucket_empties_and_fills_again_by_the_given_clock() {
        let limits = limits(0, 2.0, 3);
        let start = Instant::now();
        let ask = |client, seconds: f64| {
            limits.admit(ip(client), start + Duration::from_secs_f64(seconds))
        };
        for _ in 0..3 {
            ask(ALICE, 0.0).unwrap();
        }
        let Exceeded::Rate { retry_after, .. } = ask(ALICE, 0.0).unwrap_err() else {
            panic!("another limit");
        };
        assert_eq!(retry_after, Duration::from_millis(500));
        ask(BOB, 0.0).unwrap();
        // A refused request takes nothing.
        assert!(ask(ALICE, 0.4).is_err());
        ask(ALICE, 0.5).unwrap();
        assert!(ask(ALICE, 0.5).is_err());
        // However long it waits, no more than the burst.
        for _ in 0..3 {
            ask(ALICE, 1000.0).unwrap();
        }
        assert!(ask(ALICE, 1000.0).is_err());
        // A clock that goes back fills nothing.
        assert!(ask(ALICE, 999.0).is_err());
    }

    #[test]
    fn loopback_is_free_unless_it_is_told_not_to_be() {
        let now = Instant::now();
        let free = limits(1, 1.0, 1);
        for _ in 0..5 {
            assert!(free.admit(ip("127.0.0.1"), now).unwrap().is_none());
            assert!(free.admit(ip("::1"), now).unwrap().is_none());
        }
        let mut bound = ClientLimits::new(&Limits::default());
        (bound.concurrent, bound.on_loopback) = (1, true);
        let bound = Arc::new(bound);
        let _place = bound.admit(ip("127.0.0.1"), now).unwrap();
        assert!(bound.admit(ip("127.0.0.1"), now).is_err());
        let off = limits(0, 0.0, 1);
        assert!(off.admit(ip(ALICE), now).unwrap().is_none());
    }

    #[test]
    fn neighbours_in_one_ipv6_network_share_a_bucket() {
        let limits = limits(0, 1.0, 2);
        let now = Instant::now();
        limits.admit(ip("2001:db8::1"), now).unwrap();
        limits.admit(ip("2001:db8::2"), now).unwrap();
        assert!(limits.admit(ip("2001:db8::3"), now).is_err());
        assert!(limits.admit(ip("2001:db8:0:1::3"), now).is_ok());
    }

    #[test]
    fn many_addresses_take_no_more_memory_and_share_what_one_gets() {
        let mut limits = ClientLimits::new(&Limits {
            per_client_concurrent: 0,
            per_client_per_second: 1.0,
            per_client_burst: 5,
            ..Limits::default()
        });
        limits.max_clients = 100;
        let limits = Arc::new(limits);
        let start = Instant::now();
        let admitted = (0..1000_u32)
            .filter(|&number| {
                let address = IpAddr::V4((0xC000_0000 + number).into());
                limits.admit(address, start).is_ok()
            })
            .count();
        assert_eq!(admitted, 100 + 5);
        assert_eq!(limits.lock().clients.len(), 100);
        // Their buckets are full again after a second: they are forgotten, and there is room for others.
        let later = start + Duration::from_secs(1);
        assert!(limits.admit(ip(ALICE), later).is_ok());
        assert_eq!(limits.lock().clients.len(), 1);
    }

    #[test]
    fn clients_with_a_request_at_work_are_not_forgotten() {
        let mut limits = ClientLimits::new(&Limits::default());
        (limits.max_clients, limits.concurrent) = (1, 1);
        let limits = Arc::new(limits);
        let start = Instant::now();
        let place = limits.admit(ip(ALICE), start).unwrap();
        let later = start + Duration::from_secs(60);
        let other = limits.admit(ip(BOB), later).unwrap();
        assert!(limits.admit(ip(ALICE), later).is_err());
        // The shared place is given back to itself.
        assert!(limits.admit(ip("198.51.100.3"), later).is_err());
        drop(other);
        assert!(limits.admit(ip("198.51.100.3"), later).is_ok());
        drop(place);
        assert!(limits.admit(ip(ALICE), later).is_ok());
    }
}
