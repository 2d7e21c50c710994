use super::*;
use crate::feed::Applied;
use fulcrum_contract::TenantId;

const NOW_MS: u64 = 1_772_352_000_000;

fn store() -> (tempfile::TempDir, Identity) {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::open(&folder.path().join("identity.redb")).unwrap();
    (folder, identity)
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

impl KnownLogins<u32> {
    fn show(&self, username: &str) -> Shown {
        self.shown(Adapter::Mqtt, username, b"secret").unwrap()
    }

    fn teach(&self, username: &str, tenant: &TenantId, principal: u32) {
        let edition = self.editions.of(tenant);
        let standing = Standing { edition, from_ms: 0, until_ms: u64::MAX };
        self.lesson(self.show(username)).learn(standing, principal);
    }

    fn find_named(&mut self, username: &str) -> Option<u32> {
        let shown = self.show(username);
        self.find(&shown, NOW_MS)
    }

    fn len(&self) -> usize {
        self.buckets.iter().map(Vec::len).sum()
    }
}

#[test]
fn what_is_known_is_bounded_and_the_latest_stays() {
    let (_folder, identity) = store();
    let mut known = KnownLogins::<u32>::new(identity.inner.editions.clone(), 2);
    for number in 0..1_000 {
        let name = format!("d{number}@t");
        known.teach(&name, &tenant("t"), number);
        assert_eq!(known.find_named(&name), Some(number));
        assert!(known.len() <= 2 * KNOWN_LOGINS_PER_BUCKET);
    }
    assert_eq!(known.len(), 2 * KNOWN_LOGINS_PER_BUCKET);
    assert_eq!(known.find_named("d0@t"), None);
}

#[test]
fn a_full_bucket_forgets_first_what_is_void() {
    let (_folder, identity) = store();
    let mut known = KnownLogins::<u32>::new(identity.inner.editions.clone(), 1);
    let (changed, kept) = (tenant("changed"), tenant("kept"));
    let groups = |name| identity.inner.editions.of(name);
    if groups(&changed) == groups(&kept) {
        // One time in a thousand they are in one group.
        return;
    }
    known.teach("first@kept", &kept, 0);
    for number in 1..KNOWN_LOGINS_PER_BUCKET as u32 {
        known.teach(&format!("d{number}@changed"), &changed, number);
    }
    assert_eq!(known.find_named("first@kept"), Some(0));
    let tenants_changed = vec![changed.clone()];
    identity.inner.editions.raise(&Applied { tenants_changed, ..Applied::default() });
    for number in 1..KNOWN_LOGINS_PER_BUCKET as u32 {
        known.teach(&format!("n{number}@kept"), &kept, number);
    }
    assert_eq!(known.find_named("first@kept"), Some(0), "the void ones made room");
    known.teach("one-more@kept", &kept, 99);
    assert_eq!(known.find_named("first@kept"), None, "then the oldest does");
    assert_eq!(known.find_named("one-more@kept"), Some(99));
}

#[test]
fn what_is_learnt_again_takes_the_place_it_had() {
    let (_folder, identity) = store();
    let mut known = KnownLogins::<u32>::new(identity.inner.editions.clone(), 1);
    for number in 0..100 {
        known.teach("d@t", &tenant("t"), number);
        assert_eq!((known.find_named("d@t"), known.len()), (Some(number), 1));
    }
}

#[test]
fn lessons_that_nobody_takes_are_bounded() {
    let (_folder, identity) = store();
    let mut known = identity.known_logins::<u32>();
    for number in 0..2 * LESSONS_WAITING_MAX as u32 {
        known.teach(&format!("d{number}@t"), &tenant("t"), number);
    }
    assert_eq!(known.find_named("nobody@t"), None);
    assert_eq!(known.len(), LESSONS_WAITING_MAX);
    assert_eq!(known.find_named("d0@t"), Some(0));
}

#[test]
fn adapter_name_and_password_are_told_apart() {
    let (_folder, identity) = store();
    let known = identity.known_logins::<u32>();
    let shown = |adapter, name, password: &[u8]| known.shown(adapter, name, password).unwrap();
    let one = shown(Adapter::Mqtt, "ab", b"c");
    assert!(one == shown(Adapter::Mqtt, "ab", b"c"));
    assert!(one != shown(Adapter::Http, "ab", b"c"));
    assert!(one != shown(Adapter::Mqtt, "a", b"bc"));
    assert!(one != shown(Adapter::Mqtt, "ab", b"C"));
    let other = identity.known_logins::<u32>();
    assert!(one != other.shown(Adapter::Mqtt, "ab", b"c").unwrap(), "each has a key of its own");
}

#[test]
fn what_is_too_long_is_not_named() {
    let (_folder, identity) = store();
    let known = identity.known_logins::<u32>();
    let password = vec![b'x'; KNOWN_LOGIN_BYTES_MAX - 3];
    assert!(known.shown(Adapter::Mqtt, "d@t", &password).is_some());
    assert!(known.shown(Adapter::Mqtt, "dd@t", &password).is_none());
}

#[test]
fn debug_output_shows_no_login() {
    let (_folder, identity) = store();
    let known = identity.known_logins::<u32>();
    let shown = known.show("d@t");
    let text = format!("{known:?} {shown:?} {:?}", known.lesson(shown));
    assert_eq!(text, "KnownLogins { logins: 0, .. } Shown(…) Lesson(…)");
}
