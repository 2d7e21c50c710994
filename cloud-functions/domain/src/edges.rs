//! Edge nodes: made with a one-time token, enrolled with their own key, tied to tenants.

use crate::registry::{Listed, Page, put};
use crate::rows::{EdgeRow, PRESENT, SeenRow, decode};
use crate::secrets::{has_sha256, new_id, new_secret, sha256_base64};
use crate::store::{Expect, Item, StoreError, Write};
use crate::{ATTEMPTS, Cloud, Error, keys};
use fulcrum_contract::enrolment::{EdgeCreated, EdgeView, EnrolRequest, Enrolled};
use fulcrum_contract::{EdgeId, TenantId};
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _, LineEnding};

/// Most tenants of one edge: each is a feed to merge in every poll.
pub const TENANTS_PER_EDGE_MAX: usize = 1000;
/// How exact `lastSeenMs` is: a write per request would be too many.
const SEEN_EVERY_MS: u64 = 30_000;

/// An edge node that has proved who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    /// Its id.
    pub id: EdgeId,
    /// Tenants it serves.
    pub tenants: Vec<TenantId>,
    pub(crate) incarnation: String,
    pub(crate) feed: String,
}

impl Edge {
    pub(crate) fn of(id: EdgeId, row: &EdgeRow) -> Edge {
        let (incarnation, feed) = (row.incarnation.clone(), row.feed.clone());
        Edge { id, tenants: row.tenants.clone(), incarnation, feed }
    }

    /// Whether it may carry messages of `tenant`.
    pub fn serves(&self, tenant: &TenantId) -> bool {
        self.tenants.contains(tenant)
    }
}

const TOKEN: Error = Error::Unauthorized(
    "the enrolment token is wrong, used or expired: ask an operator for a new one (POST /v1/edges/{edge}/token)",
);

impl Cloud {
    /// Makes an edge known; the answer is the only place its token ever is.
    pub async fn create_edge(
        &self,
        id: &EdgeId,
        tenants: Vec<TenantId>,
        now_ms: u64,
    ) -> Result<EdgeCreated, Error> {
        let tenants = self.checked_tenants(tenants).await?;
        let mut row = EdgeRow {
            tenants,
            incarnation: new_id(),
            feed: new_id(),
            token_sha256: None,
            token_expires_ms: 0,
            token_used_by: None,
            public_key: None,
        };
        let created = self.new_token(id, &mut row, now_ms);
        let mut writes = vec![put(keys::edge(id), &row, Expect::Absent)];
        writes.extend(serve(id, &[], &row.tenants));
        match self.store.write(writes).await {
            Ok(_) => Ok(created),
            Err(StoreError::Conflict) => Err(Error::Exists(format!(
                "the edge '{id}' exists already: POST /v1/edges/{id}/token makes a new token for it"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a new enrolment token. The present key stays valid until the token is used.
    pub async fn renew_edge_token(&self, id: &EdgeId, now_ms: u64) -> Result<EdgeCreated, Error> {
        for _ in 0..ATTEMPTS {
            let item = self.edge_item(id).await?;
            let mut row: EdgeRow = decode(&item)?;
            let created = self.new_token(id, &mut row, now_ms);
            let write = put(keys::edge(id), &row, Expect::as_read(Some(&item)));
            match self.store.write(vec![write]).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other.map(|_| created)?),
            }
        }
        Err(Error::Busy)
    }

    fn new_token(&self, id: &EdgeId, row: &mut EdgeRow, now_ms: u64) -> EdgeCreated {
        let token = new_secret();
        row.token_sha256 = Some(sha256_base64(token.as_bytes()));
        row.token_expires_ms = now_ms.saturating_add(self.settings.enrolment_token_ms);
        row.token_used_by = None;
        EdgeCreated { id: id.clone(), token, expires_ms: row.token_expires_ms }
    }

    /// Exchanges a one-time token for trust in a key. Repeating it with the same key gives the same answer, so that an edge
    /// whose answer was lost is not locked out.
    pub async fn enrol(&self, request: &EnrolRequest, now_ms: u64) -> Result<Enrolled, Error> {
        let public_key = canonical_key(&request.public_key)?;
        for _ in 0..ATTEMPTS {
            let item = self.one(keys::edge(&request.edge)).await?.ok_or(TOKEN)?;
            let mut row: EdgeRow = decode(&item)?;
            let stored = row.token_sha256.as_deref().unwrap_or_default();
            if !has_sha256(&request.token, stored) || now_ms > row.token_expires_ms {
                return Err(TOKEN);
            }
            let enrolled = Enrolled { edge: request.edge.clone(), tenants: row.tenants.clone() };
            match &row.token_used_by {
                Some(user) if *user == public_key => return Ok(enrolled),
                Some(_) => return Err(TOKEN),
                None => {}
            }
            row.token_used_by = Some(public_key.clone());
            row.public_key = Some(public_key.clone());
            let write = put(keys::edge(&request.edge), &row, Expect::as_read(Some(&item)));
            match self.store.write(vec![write]).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other.map(|_| enrolled)?),
            }
        }
        Err(Error::Busy)
    }

    /// Changes the tenants an edge serves; the edge takes a new snapshot.
    pub async fn update_edge(
        &self,
        id: &EdgeId,
        tenants: Vec<TenantId>,
        now_ms: u64,
    ) -> Result<(), Error> {
        let tenants = self.checked_tenants(tenants).await?;
        for _ in 0..ATTEMPTS {
            let item = self.edge_item(id).await?;
            let mut row: EdgeRow = decode(&item)?;
            let mut writes = serve(id, &row.tenants, &tenants);
            row.tenants = tenants.clone();
            row.feed = new_id();
            writes.push(put(keys::edge(id), &row, Expect::as_read(Some(&item))));
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => {
                    other?;
                    return self.release_commands(&Edge::of(id.clone(), &row), now_ms).await;
                }
            }
        }
        Err(Error::Busy)
    }

    /// Revokes an edge: its key is void, its commands wait for another one. Its records stay.
    pub async fn delete_edge(&self, id: &EdgeId, now_ms: u64) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let item = self.edge_item(id).await?;
            let mut row: EdgeRow = decode(&item)?;
            let mut writes = serve(id, &row.tenants, &[]);
            writes
                .push(Write::Delete { key: keys::edge(id), expect: Expect::as_read(Some(&item)) });
            writes.push(Write::Delete { key: keys::edge_seen(id), expect: Expect::Anything });
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => {
                    other?;
                    row.tenants.clear();
                    return self.release_commands(&Edge::of(id.clone(), &row), now_ms).await;
                }
            }
        }
        Err(Error::Busy)
    }

    /// An edge as operators see it.
    pub async fn edge(&self, id: &EdgeId) -> Result<EdgeView, Error> {
        let item = self.edge_item(id).await?;
        self.view(id.clone(), &item).await
    }

    /// An edge as it acts; for a caller that has made sure who is asking.
    pub async fn edge_by_id(&self, id: &EdgeId) -> Result<Edge, Error> {
        Ok(Edge::of(id.clone(), &decode(&self.edge_item(id).await?)?))
    }

    /// Edges in the order of their ids.
    pub async fn edges(&self, page: Page) -> Result<Listed<EdgeView>, Error> {
        let listed = self.list(keys::EDGES, page).await?;
        let mut result = Vec::with_capacity(listed.result.len());
        for item in listed.result {
            let id = EdgeId::parse(&item.sort).map_err(Error::invalid)?;
            result.push(self.view(id, &item).await?);
        }
        Ok(Listed { total: listed.total, result })
    }

    async fn view(&self, id: EdgeId, item: &Item) -> Result<EdgeView, Error> {
        let row: EdgeRow = decode(item)?;
        let seen = self.one(keys::edge_seen(&id)).await?;
        let last_seen_ms =
            seen.map(|item| decode::<SeenRow>(&item)).transpose()?.map(|row| row.at_ms);
        Ok(EdgeView { id, tenants: row.tenants, enrolled: row.public_key.is_some(), last_seen_ms })
    }

    async fn edge_item(&self, id: &EdgeId) -> Result<Item, Error> {
        let missing = || Error::NotFound(format!("there is no edge '{id}': create it first"));
        self.one(keys::edge(id)).await?.ok_or_else(missing)
    }

    pub(crate) async fn mark_seen(&self, id: &EdgeId, now_ms: u64) -> Result<(), Error> {
        let key = keys::edge_seen(id);
        let seen = self.one(key.clone()).await?.map(|item| decode::<SeenRow>(&item)).transpose()?;
        if seen.is_some_and(|seen| now_ms.abs_diff(seen.at_ms) < SEEN_EVERY_MS) {
            return Ok(());
        }
        self.store.write(vec![put(key, &SeenRow { at_ms: now_ms }, Expect::Anything)]).await?;
        Ok(())
    }

    /// Sorted, without doubles, all of them there.
    async fn checked_tenants(&self, mut tenants: Vec<TenantId>) -> Result<Vec<TenantId>, Error> {
        tenants.sort();
        tenants.dedup();
        if tenants.len() > TENANTS_PER_EDGE_MAX {
            return Err(Error::Invalid(format!(
                "an edge serves at most {TENANTS_PER_EDGE_MAX} tenants: spread them over several edges"
            )));
        }
        for tenant in &tenants {
            self.tenant_item(tenant).await?;
        }
        Ok(tenants)
    }
}

/// Steps from serving `before` to serving `after`.
fn serve(edge: &EdgeId, before: &[TenantId], after: &[TenantId]) -> Vec<Write> {
    let mut writes = Vec::new();
    for tenant in after.iter().filter(|tenant| !before.contains(tenant)) {
        let key = keys::edge_of(tenant, edge);
        writes.push(Write::Put { key, value: PRESENT, expect: Expect::Anything });
    }
    for tenant in before.iter().filter(|tenant| !after.contains(tenant)) {
        writes.push(Write::Delete { key: keys::edge_of(tenant, edge), expect: Expect::Anything });
    }
    writes
}

/// The key as we write it, so that equal keys are equal texts.
fn canonical_key(pem: &str) -> Result<String, Error> {
    let invalid = || {
        Error::Invalid(
            "'publicKey' is not a P-256 public key in PEM (-----BEGIN PUBLIC KEY-----)".to_owned(),
        )
    };
    let key = p256::PublicKey::from_public_key_pem(pem).map_err(|_| invalid())?;
    key.to_public_key_pem(LineEnding::LF).map_err(|_| invalid())
}
