//! A batch taken apart and checked, record by record, before anything is stored.

use super::{classes, is_live, not_served};
use crate::Error;
use crate::chunk::{Classes, unpack};
use crate::commands::Report;
use crate::edges::Edge;
use bytes::Bytes;
use fulcrum_contract::commands::{CommandResponse, delivery_status};
use fulcrum_contract::sync::{BatchHeader, decode_batch, split_frames};
use fulcrum_contract::{CommandId, DeviceId};
use fulcrum_frame::{Class, Frame, Tag};
use std::ops::Range;

pub(super) struct Batch {
    pub header: BatchHeader,
    pub packed: Bytes,
    pub frames: Vec<Bytes>,
    pub reports: Vec<Told>,
    classes: Vec<Class>,
}

/// What the frame at `index` says about a command.
pub(super) struct Told {
    pub index: usize,
    pub device: DeviceId,
    pub command: CommandId,
    pub report: Report,
}

/// The header, checked against what the edge may ship, and the packed frames.
pub(super) fn open(body: &Bytes, edge: &Edge) -> Result<(BatchHeader, Bytes), Error> {
    let (header, packed) = decode_batch(body).map_err(Error::invalid)?;
    if !is_partition(&header.partition) {
        return Err(Error::Invalid(
            "'partition' must be 'p' (stored) or 't' (live telemetry) and a number".to_owned(),
        ));
    }
    if !edge.serves(&header.tenant) {
        return Err(not_served(edge, &header.tenant));
    }
    Ok((header, body.slice_ref(packed)))
}

fn is_partition(name: &str) -> bool {
    let number = name.strip_prefix(['p', 't']).unwrap_or_default();
    (1..=5).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}

impl Batch {
    /// Unpacks and checks every frame. Takes time in proportion to the batch: for the blocking pool.
    pub(super) fn parse(header: BatchHeader, packed: Bytes) -> Result<Batch, Error> {
        let unpacked = unpack(&packed)
            .map_err(|error| Error::Invalid(format!("the batch cannot be unpacked: {error}")))?;
        let unpacked = Bytes::from(unpacked);
        let split = split_frames(&unpacked, header.count).map_err(Error::invalid)?;
        let frames: Vec<_> = split.into_iter().map(|frame| unpacked.slice_ref(frame)).collect();
        let mut batch = Batch { header, packed, frames, reports: Vec::new(), classes: Vec::new() };
        for index in 0..batch.frames.len() {
            batch.check(index)?;
        }
        Ok(batch)
    }

    fn check(&mut self, index: usize) -> Result<(), Error> {
        let sequence = self.header.first_sequence + index as u64;
        let invalid = |what: String| Error::Invalid(format!("record {sequence}: {what}"));
        let frame =
            Frame::parse(&self.frames[index]).map_err(|error| invalid(error.to_string()))?;
        if frame.tenant() != Some(self.header.tenant.as_str()) {
            return Err(Error::Forbidden(format!(
                "record {sequence} is of another tenant than its batch"
            )));
        }
        let device = DeviceId::parse(frame.device().unwrap_or_default())
            .map_err(|error| invalid(error.to_string()))?;
        match frame.class() {
            Class::Command | Class::Message | Class::Internal => {
                let class = frame.class().as_str();
                return Err(invalid(format!("a frame of class {class} is not for the cloud")));
            }
            Class::Telemetry => {}
            _ if is_live(&self.header.partition) => {
                return Err(invalid(
                    "a stored class does not belong into a 't' partition".to_owned(),
                ));
            }
            _ => {}
        }
        self.classes.push(frame.class());
        if let Some((command, report)) = told(&frame) {
            self.reports.push(Told { index, device, command, report });
        }
        Ok(())
    }

    /// Sequence of the last frame.
    pub(super) fn last(&self) -> u64 {
        self.header.first_sequence + u64::from(self.header.count) - 1
    }

    /// The frames behind `mark`, as far as they say at most `commands_max` things about commands. The first of them is at most
    /// one behind `mark`.
    pub(super) fn after(&self, mark: u64, commands_max: usize) -> Range<usize> {
        let start = (mark + 1 - self.header.first_sequence) as usize;
        let mut beyond = self.reports.iter().filter(|told| told.index >= start).skip(commands_max);
        start..beyond.next().map_or(self.frames.len(), |told| told.index)
    }

    pub(super) fn classes_of(&self, part: Range<usize>) -> Classes {
        classes(self.classes[part].iter().copied())
    }
}

fn told(frame: &Frame<'_>) -> Option<(CommandId, Report)> {
    let command = CommandId::parse(frame.text(Tag::Correlation)?).ok()?;
    let status = frame.status()?;
    let report = match frame.class() {
        Class::CommandResponse => Report::Answered(CommandResponse {
            status,
            content_type: frame.text(Tag::ContentType).map(str::to_owned),
            payload: frame.payload().to_vec(),
        }),
        Class::CommandStatus if status == delivery_status::DELIVERED => Report::Delivered,
        Class::CommandStatus if status == delivery_status::EXPIRED => Report::Expired,
        _ => return None,
    };
    Some((command, report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::pack;
    use fulcrum_contract::TenantId;
    use fulcrum_frame::FrameBuilder;

    fn frame(class: Class, about: Option<(&str, u16)>) -> Bytes {
        let mut bytes = Vec::new();
        let mut frame = FrameBuilder::new(&mut bytes, class, 1, 1);
        frame.text(Tag::Tenant, "acme").text(Tag::Device, "pump");
        if let Some((command, status)) = about {
            frame.text(Tag::Correlation, command).status(status);
        }
        frame.finish(b"").unwrap();
        bytes.into()
    }

    fn batch(frames: &[Bytes]) -> Batch {
        let header = BatchHeader {
            tenant: TenantId::parse("acme").unwrap(),
            partition: "p0".to_owned(),
            epoch: 1,
            first_sequence: 11,
            count: frames.len() as u32,
        };
        Batch::parse(header, pack(frames).unwrap().into()).unwrap()
    }

    #[test]
    fn only_what_is_behind_the_mark_is_taken_and_no_more_reports_than_fit() {
        let event = || frame(Class::Event, None);
        let told = |status| frame(Class::CommandStatus, Some(("c", status)));
        let batch = batch(&[told(200), event(), told(410), told(200), event()]);
        assert_eq!(batch.last(), 15);
        assert_eq!(batch.after(10, 9), 0..5);
        assert_eq!(batch.after(12, 9), 2..5);
        assert_eq!(batch.after(10, 2), 0..3);
        assert_eq!(batch.after(10, 1), 0..2);
        assert_eq!(batch.after(11, 1), 1..3);
        assert!(batch.classes_of(1..2).holds(Class::Event));
        assert!(!batch.classes_of(1..2).holds(Class::CommandStatus));
    }

    #[test]
    fn only_known_statuses_and_correlated_frames_say_something_about_a_command() {
        let about = |class, status| batch(&[frame(class, Some(("c", status)))]).reports.len();
        assert_eq!(about(Class::CommandResponse, 503), 1);
        assert_eq!(about(Class::CommandStatus, 200), 1);
        assert_eq!(about(Class::CommandStatus, 299), 0);
        assert_eq!(about(Class::Event, 200), 0);
        assert!(batch(&[frame(Class::CommandResponse, None)]).reports.is_empty());
    }
}
