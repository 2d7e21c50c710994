//! The recorded weather that the devices replay: who measures what, and the messages made of it.

use fulcrum_contract::DeviceId;
use serde::{Deserialize, Serialize};

const RECORDED: &str = include_str!("../../data/weather.csv");

/// One row of one instrument.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    /// Day of the observation.
    pub date: String,
    /// What was observed.
    pub value: f64,
}

/// What an instrument measures: its name in messages, its column in the file, its unit.
struct Instrument {
    name: &'static str,
    column: &'static str,
    unit: &'static str,
}

const INSTRUMENTS: [Instrument; 6] = [
    Instrument { name: "temperature-high", column: "temp_max", unit: "Cel" },
    Instrument { name: "temperature-low", column: "temp_min", unit: "Cel" },
    Instrument { name: "precipitation", column: "precipitation", unit: "mm" },
    Instrument { name: "wind", column: "wind", unit: "m/s" },
    Instrument { name: "temperature-high-2", column: "temp_max", unit: "Cel" },
    Instrument { name: "wind-2", column: "wind", unit: "m/s" },
];

/// The stations: as the file spells them, and as device ids begin.
const STATIONS: [(&str, &str); 2] = [("Seattle", "seattle"), ("New York", "new-york")];

/// All rows of one instrument at one station.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// The device that measures it.
    pub device: DeviceId,
    /// What is measured, with its unit.
    pub quantity: &'static str,
    /// UCUM code.
    pub unit: &'static str,
    /// In order of time.
    pub readings: Vec<Reading>,
}

/// The payload of telemetry and events.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// The device that measured.
    pub device: String,
    /// The device's own count of its events (or of its telemetry), from 1.
    pub n: u64,
    /// Day of the observation.
    pub date: String,
    /// What was measured.
    pub quantity: String,
    /// What was observed.
    pub value: f64,
    /// UCUM code.
    pub unit: String,
}

impl Series {
    /// The message number `n`; after the last reading the series starts over.
    pub fn message(&self, n: u64) -> Message {
        let index = (n.saturating_sub(1) % self.readings.len() as u64) as usize;
        let reading = &self.readings[index];
        Message {
            device: self.device.to_string(),
            n,
            date: reading.date.clone(),
            quantity: self.quantity.to_owned(),
            value: reading.value,
            unit: self.unit.to_owned(),
        }
    }

    /// [`Series::message`] as JSON.
    pub fn payload(&self, n: u64) -> Vec<u8> {
        serde_json::to_vec(&self.message(n))
            .expect("a message of text and finite numbers is always JSON")
    }
}

/// One series per device: six instruments at each of two stations.
pub fn recorded_series() -> Vec<Series> {
    let mut lines = RECORDED.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| columns.iter().position(|column| *column == name);
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let mut all = Vec::new();
    for (station, prefix) in STATIONS {
        for instrument in &INSTRUMENTS {
            let readings =
                rows.iter().filter(|row| row.first() == Some(&station)).filter_map(|row| {
                    let date = (*row.get(column("date")?)?).to_owned();
                    let value = row.get(column(instrument.column)?)?.parse().ok()?;
                    Some(Reading { date, value })
                });
            let device = DeviceId::parse(&format!("{prefix}-{}", instrument.name))
                .expect("station and instrument names are of letters and '-'");
            let quantity = instrument.column;
            all.push(Series {
                device,
                quantity,
                unit: instrument.unit,
                readings: readings.collect(),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_four_years_of_readings() {
        let all = recorded_series();
        assert_eq!(all.len(), 12);
        for series in &all {
            assert_eq!(series.readings.len(), 1461, "{}", series.device);
            assert!(series.readings.is_sorted_by_key(|reading| &reading.date), "{}", series.device);
        }
        assert_eq!(all[0].readings[0], Reading { date: "2012-01-01".to_owned(), value: 12.8 });
    }

    #[test]
    fn messages_start_at_one_and_start_over_after_the_last_reading() {
        let series = &recorded_series()[0];
        assert_eq!(series.message(1).date, "2012-01-01");
        assert_eq!(series.message(1461).date, "2015-12-31");
        assert_eq!(series.message(1462).date, "2012-01-01");
        assert_eq!(series.message(1462).n, 1462);
        let parsed: Message = serde_json::from_slice(&series.payload(5)).unwrap();
        assert_eq!(parsed, series.message(5));
    }
}
