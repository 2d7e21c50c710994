//! Connections come and go: attach, detach, take-over, the end of a session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::books::{Entity, StoredWill};
use crate::record::{Entry, Image};
use crate::session::{Debt, Durable, Session};
use crate::sessions::session_of;
use crate::{AttachRefused, Ended, Log, Place, SessionKey, Sessions, Will};

/// Who connects, and with which wishes.
#[derive(Debug)]
pub struct Attach<'a> {
    /// The client's tenant.
    pub tenant: &'a Arc<str>,
    /// The client identifier, assigned by the server where the client sent none.
    pub client_id: &'a str,
    /// The login. A session belongs to the one that made it.
    pub principal: &'a Arc<str>,
    /// Clean Start [MQTT5-3.1.2-4], or Clean Session of 3.1.1.
    pub clean_start: bool,
    /// Session expiry interval in seconds, cut to [`Limits::session_expiry_max_s`](crate::Limits). 0 ends the session
    /// with the connection. For 3.1.1: `u32::MAX` for Clean Session 0, else 0.
    pub expiry_s: u32,
    /// The client's receive maximum; 0 counts as 65535, as for 3.1.1.
    pub receive_max: u16,
    /// The connection; unique among those this shard has.
    pub link: u64,
    /// The will of this connection.
    pub will: Option<Will>,
}

/// A session has its connection.
#[derive(Debug)]
pub struct Attached {
    /// The session's key. It stays the same as long as the session lives.
    pub key: SessionKey,
    /// Session Present [MQTT5-3.2.2-2], [MQTT5-3.2.2-3].
    pub present: bool,
    /// The older connection; it gets DISCONNECT 0x8E and is closed [MQTT5-3.1.4-3].
    pub taken_over: Option<u64>,
    /// The older session, which this connection did not continue.
    pub ended: Option<Ended>,
    /// The older connection's will, where the session continues and the will had no delay.
    pub will_due: Option<Will>,
    /// CONNACK leaves when this is durable.
    pub ticket: Option<u64>,
}

/// How a connection ended.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Leave {
    /// False after DISCONNECT with reason 0x00, which drops the will [MQTT5-3.14.4-3].
    pub keep_will: bool,
    /// The session expiry interval of the DISCONNECT, where it had one.
    pub expiry_s: Option<u32>,
}

/// A connection is gone.
#[derive(Debug, Default)]
pub struct Detached {
    /// The session, if it ended with its connection.
    pub ended: Option<Ended>,
    /// The will to publish now, if the session lives on.
    pub will_due: Option<Will>,
}

impl Sessions {
    /// Gives a client its session: the one it has, or a new one. A refusal changes nothing.
    ///
    /// # Errors
    /// See [`AttachRefused`].
    pub fn attach(
        &mut self,
        log: &mut (impl Log + ?Sized),
        who: Attach<'_>,
        now: Instant,
        now_ms: u64,
    ) -> Result<Attached, AttachRefused> {
        self.clock.saw(now, now_ms);
        let mut who = who;
        who.expiry_s = who.expiry_s.min(self.limits.session_expiry_max_s);
        who.receive_max = if who.receive_max == 0 { u16::MAX } else { who.receive_max };
        let found = self.find(who.tenant, who.client_id);
        let Some((key, session)) = found.and_then(|key| Some((key, self.session(key)?))) else {
            let sessions = self.tenants.find(who.tenant).map_or(0, |tenant| tenant.clients.len());
            if sessions >= self.limits.tenant_sessions_max {
                return Err(AttachRefused::TooManySessions);
            }
            return self.attach_new(log, who, None);
        };
        if session.principal != *who.principal {
            return Err(AttachRefused::OtherPrincipal);
        }
        let lives = session.durable.as_ref().is_some_and(|durable| {
            session.link.is_some() || durable.ends_at.is_none_or(|ends| ends > now)
        });
        if lives && !who.clean_start {
            self.attach_again(log, who, key, now)
        } else {
            self.attach_new(log, who, Some(key))
        }
    }

    /// A connection is gone: starts the session's expiry and the will's delay [MQTT5-3.1.3-9]. Does nothing unless
    /// `link` is the session's connection.
    pub fn detach(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        link: u64,
        how: Leave,
        now: Instant,
        now_ms: u64,
    ) -> Detached {
        self.clock.saw(now, now_ms);
        let expiry_max = self.limits.session_expiry_max_s;
        let Some(session) = self.session_mut(key) else { return Detached::default() };
        if session.link != Some(link) {
            return Detached::default();
        }
        if let Some(expiry_s) = how.expiry_s
            && session.durable.is_some()
        {
            session.expiry_s = expiry_s.min(expiry_max);
        }
        let dropped_will = if how.keep_will { 0 } else { std::mem::take(&mut session.will) };
        if session.durable.is_none() || session.expiry_s == 0 {
            let ended =
                self.finish(log, key, dropped_will).map(|ended| Ended { link: None, ..ended });
            return Detached { ended, will_due: None };
        }
        self.detach_durable(log, key, dropped_will, now, now_ms)
    }

    /// Ends a session by decision of the node or its operator, connected or not.
    pub fn end(&mut self, log: &mut (impl Log + ?Sized), key: SessionKey) -> Option<Ended> {
        self.finish(log, key, 0)
    }

    /// Ends every session a principal has: its login was taken away.
    pub fn forget_principal(
        &mut self,
        log: &mut (impl Log + ?Sized),
        tenant: &str,
        principal: &str,
    ) -> Vec<Ended> {
        self.end_all(log, tenant, |session| *session.principal == *principal)
    }

    /// Ends every session of a tenant and drops what it retained: the tenant was deleted.
    pub fn forget_tenant(&mut self, log: &mut (impl Log + ?Sized), tenant: &str) -> Vec<Ended> {
        self.drop_retained_of(log, tenant);
        self.end_all(log, tenant, |_| true)
    }
}

impl Sessions {
    fn attach_new(
        &mut self,
        log: &mut (impl Log + ?Sized),
        who: Attach<'_>,
        old: Option<SessionKey>,
    ) -> Result<Attached, AttachRefused> {
        let mut record = self.books.begin(who.tenant);
        let plain = record.len();
        let old_session = old.and_then(|key| self.session(key));
        if let Some(durable) = old_session.and_then(|session| session.durable.as_ref()) {
            Entry::Ended { session: durable.id }.put(&mut record);
        }
        let taken_over = old_session.and_then(|session| session.link);
        let id = if who.expiry_s == 0 { 0 } else { self.books.last_session + 1 };
        if id != 0 {
            let image = Image {
                session: id,
                client_id: who.client_id.into(),
                principal: (**who.principal).into(),
                expiry_s: who.expiry_s,
                receive_max: who.receive_max,
                ..Image::default()
            };
            Entry::Image(image).put(&mut record);
        }
        if let Some(will) = &who.will {
            put_will(&mut record, self.books.last_will + 1, id, who.client_id, will);
        }
        let essential = id == 0 && who.will.is_none();
        let place = if record.len() > plain {
            let place = self.books.append(log, who.tenant, record, essential);
            Some(place.map_err(AttachRefused::Log)?)
        } else {
            self.books.give_back(record);
            None
        };

        let ticket = place.map(|place| place.ticket);
        let ended = old.and_then(|key| self.take_out(key, ticket));
        let principal = Arc::clone(who.principal);
        let client_id = match *who.client_id == **who.principal {
            true => Arc::clone(who.principal),
            false => who.client_id.into(),
        };
        let will = self.keep_will(who.will, who.tenant, &client_id, id, place);
        let durable = place.filter(|_| id != 0).map(|place| {
            self.books.last_session = id;
            Box::new(Durable::new(id, place.segment, place.ticket))
        });
        let tenant = self.tenants.place(who.tenant);
        let key = self.settle(Session {
            client_id,
            principal,
            subscriptions: Vec::new(),
            flow: None,
            incoming: None,
            durable,
            link: Some(who.link),
            open_after: ticket.unwrap_or(0),
            will,
            tenant,
            expiry_s: who.expiry_s,
            receive_max: who.receive_max,
            ready: false,
        });
        if let Some(place) = place.filter(|_| id != 0) {
            self.books.settle_in(Entity::Session(key), place.segment);
        }
        if let Some(ticket) = ticket {
            self.waiting.push_back((ticket, key));
        }
        let ended = ended.map(|ended| Ended { link: None, ..ended });
        Ok(Attached { key, present: false, taken_over, ended, will_due: None, ticket })
    }

    fn attach_again(
        &mut self,
        log: &mut (impl Log + ?Sized),
        who: Attach<'_>,
        key: SessionKey,
        now: Instant,
    ) -> Result<Attached, AttachRefused> {
        if who.expiry_s != 0 {
            self.pay_image(log, key).map_err(AttachRefused::Log)?;
        }
        let Some(session) = session_of(&mut self.slots, key) else {
            return self.attach_new(log, who, None);
        };
        let Some(durable) = &session.durable else {
            return self.attach_new(log, who, Some(key));
        };
        let (old_will, id, taken_over) = (session.will, durable.id, session.link);
        let will_passed = durable.will_at.is_some_and(|at| at <= now);
        let mut record = self.books.begin(who.tenant);
        let old = self.books.wills.get(&old_will).map(|stored| &stored.will);
        let will_due =
            old.filter(|will| will_passed || taken_over.is_some() && will.delay_s == 0).cloned();
        if who.expiry_s == 0 {
            Entry::Ended { session: id }.put(&mut record);
        } else {
            let (expiry_s, receive_max) = (who.expiry_s, who.receive_max);
            Entry::Attached { session: id, expiry_s, receive_max }.put(&mut record);
        }
        if old_will != 0 && will_due.is_none() {
            Entry::WillDone { will: old_will }.put(&mut record);
        }
        let new_id = if who.expiry_s == 0 { 0 } else { id };
        if let Some(will) = &who.will {
            put_will(&mut record, self.books.last_will + 1, new_id, who.client_id, will);
        }
        let place = self
            .books
            .append(log, who.tenant, record, who.will.is_none())
            .map_err(AttachRefused::Log)?;

        if will_due.is_none() {
            self.books.remove_will(old_will, Some(place.ticket));
        }
        let client_id = self.client_id(key).cloned().unwrap_or_else(|| who.client_id.into());
        let will = self.keep_will(who.will, who.tenant, &client_id, new_id, Some(place));
        self.counters.sessions_connected += u64::from(taken_over.is_none());
        if let Some(session) = session_of(&mut self.slots, key) {
            session.link = Some(who.link);
            session.will = will;
            session.expiry_s = who.expiry_s;
            session.receive_max = who.receive_max;
            session.open_after = place.ticket;
            if let Some(flow) = &mut session.flow {
                flow.restart();
            }
            if let Some(durable) = &mut session.durable {
                durable.last_ticket = place.ticket;
                durable.detached_at_ms = None;
                durable.ends_at = None;
                durable.will_at = None;
                durable.debt = Debt::None;
            }
        }
        self.set_deadline(key);
        if who.expiry_s == 0 {
            self.forget_in_log(key, place);
        }
        self.waiting.push_back((place.ticket, key));
        let ticket = Some(place.ticket);
        Ok(Attached { key, present: true, taken_over, ended: None, will_due, ticket })
    }

    /// A durable session becomes one that ends with its connection.
    fn forget_in_log(&mut self, key: SessionKey, place: Place) {
        let Some(session) = session_of(&mut self.slots, key) else { return };
        let Some(durable) = session.durable.take() else { return };
        self.books.image_bytes -= session.image_bytes();
        self.books.unhome(Entity::Session(key), durable.home, Some(place.ticket));
        if let Some(flow) = &mut session.flow {
            for entry in &mut flow.entries {
                self.books.release_body(std::mem::take(&mut entry.body), Some(place.ticket));
            }
        }
    }

    fn detach_durable(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        dropped_will: u64,
        now: Instant,
        now_ms: u64,
    ) -> Detached {
        let mut will_due = None;
        let Some(session) = session_of(&mut self.slots, key) else { return Detached::default() };
        session.link = None;
        self.counters.sessions_connected -= 1;
        let expiry_s = session.expiry_s;
        let sent_through = session.flow.as_mut().map_or(0, |flow| {
            flow.restart();
            flow.sent_through
        });
        let mut id = 0;
        if let Some(durable) = &mut session.durable {
            id = durable.id;
            durable.detached_at_ms = Some(now_ms);
            durable.ends_at = Some(now + Duration::from_secs(u64::from(expiry_s)));
            if let Some(stored) = self.books.wills.get(&session.will) {
                if stored.will.delay_s == 0 {
                    will_due = Some(stored.will.clone());
                    session.will = 0;
                } else {
                    let delay = Duration::from_secs(u64::from(stored.will.delay_s));
                    durable.will_at = Some(now + delay);
                }
            }
        }
        self.set_deadline(key);
        let detached = Entry::Detached { session: id, at_ms: now_ms, expiry_s, sent_through };
        if dropped_will == 0 {
            self.append_done(log, key, &[detached]);
        } else {
            let done = Entry::WillDone { will: dropped_will };
            let ticket = match self.append_done(log, key, &[detached, done.clone()]) {
                Some(ticket) => Some(ticket),
                None => self.owe_over(log, key, &[done]),
            };
            self.books.remove_will(dropped_will, ticket);
        }
        Detached { ended: None, will_due }
    }

    fn owe_over(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        entries: &[Entry<'_>],
    ) -> Option<u64> {
        let tenant = self.tenant(key).cloned()?;
        self.books.append_or_owe(log, &tenant, entries).map(|place| place.ticket)
    }

    /// Ends a session, and drops a will that is not its any more.
    pub(crate) fn finish(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        dropped_will: u64,
    ) -> Option<Ended> {
        let durable = self.session(key)?.durable.as_ref().map(|durable| durable.id);
        let ended = durable.map(|session| Entry::Ended { session });
        let dropped = (dropped_will != 0).then_some(Entry::WillDone { will: dropped_will });
        let entries: Vec<Entry<'_>> = ended.into_iter().chain(dropped).collect();
        let ticket = if entries.is_empty() { None } else { self.owe_over(log, key, &entries) };
        self.books.remove_will(dropped_will, ticket);
        self.take_out(key, ticket)
    }

    /// A session is no more, as of the record with this ticket. Its will stays in the log until it is published.
    fn take_out(&mut self, key: SessionKey, ticket: Option<u64>) -> Option<Ended> {
        let tenant = self.tenant(key).cloned()?;
        let (session, shared) = self.unsettle(key, ticket)?;
        Some(Ended {
            key,
            tenant,
            client_id: session.client_id,
            link: session.link,
            filters: session.subscriptions.into_iter().map(|(filter, _)| filter).collect(),
            will: self.books.wills.get(&session.will).map(|stored| stored.will.clone()),
            shared,
        })
    }

    fn end_all(
        &mut self,
        log: &mut (impl Log + ?Sized),
        tenant: &str,
        which: impl Fn(&Session) -> bool,
    ) -> Vec<Ended> {
        let Some(clients) = self.tenants.find(tenant).map(|tenant| &tenant.clients) else {
            return Vec::new();
        };
        let keys: Vec<SessionKey> = clients
            .values()
            .copied()
            .filter(|key| self.session(*key).is_some_and(&which))
            .collect();
        keys.into_iter().filter_map(|key| self.finish(log, key, 0)).collect()
    }

    /// Books a will that was recorded; answers its number, 0 for none.
    fn keep_will(
        &mut self,
        will: Option<Will>,
        tenant: &Arc<str>,
        client_id: &Arc<str>,
        session: u64,
        place: Option<Place>,
    ) -> u64 {
        let (Some(will), Some(place)) = (will, place) else { return 0 };
        self.books.last_will += 1;
        let id = self.books.last_will;
        let (tenant, client_id) = (Arc::clone(tenant), Arc::clone(client_id));
        let will = Will { tenant, client_id, id, ..will };
        self.books.add_will(StoredWill { will, session, home: place.segment });
        id
    }
}

fn put_will(record: &mut Vec<u8>, will: u64, session: u64, client_id: &str, what: &Will) {
    let (delay_s, frame) = (what.delay_s, &what.frame[..]);
    Entry::Will { will, session, client_id, delay_s, frame }.put(record);
}
