//! The figures as Markdown tables, and what they have to reach.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::loads::{DELIVERED, Figures, Load};
use crate::machine;
use crate::plot;
use crate::proxies::{Row, Site};

/// Everything measured so far.
pub(crate) struct Report {
    setting: String,
    results: Vec<Series>,
}

/// One figure of one row, once for each round.
struct Series {
    load: Load,
    row: Row,
    figure: &'static str,
    values: Vec<f64>,
}

impl Report {
    /// An empty one, about this machine.
    pub(crate) fn new(setting: &str, site: &Site) -> Self {
        let setting = format!("{}\n{setting}\n", machine::describe(&site.binary, site.other.as_deref()));
        Self { setting, results: Vec::new() }
    }

    /// Takes in what one measurement said.
    pub(crate) fn add(&mut self, load: Load, row: Row, figures: Figures) {
        for (figure, value) in figures {
            let known =
                self.results.iter_mut().find(|it| it.load == load && it.row == row && it.figure == figure);
            match known {
                Some(known) => known.values.push(value),
                None => self.results.push(Series { load, row, figure, values: vec![value] }),
            }
        }
    }

    /// All figures of a load: median, least and most, ratio to nginx.
    pub(crate) fn table(&self, load: Load) -> String {
        let (mut rows, mut figures) = (Vec::new(), Vec::new());
        // Direct has fewer figures than the rest, so the order is that of the last row.
        for series in self.results.iter().rev().filter(|it| it.load == load) {
            if !rows.contains(&series.row) {
                rows.insert(0, series.row);
            }
            if !figures.contains(&series.figure) {
                figures.insert(0, series.figure);
            }
        }
        let mut table = format!("| {} |", load.word());
        for figure in &figures {
            write!(table, " {figure} |").expect(INFALLIBLE);
        }
        table.push_str("\n|---|");
        table.push_str(&"--:|".repeat(figures.len()));
        table.push('\n');
        for row in rows {
            write!(table, "| {} |", row.name()).expect(INFALLIBLE);
            for figure in &figures {
                write!(table, " {} |", self.cell(load, row, figure)).expect(INFALLIBLE);
            }
            table.push('\n');
        }
        table
    }

    /// Writes everything to a directory.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        let mut page =
            format!("# Performance\n\n{}\n{INTRODUCTION}\n## Aims\n\n{}", self.setting, self.aims());
        for load in Load::ALL {
            let Some(main) = self.results.iter().find(|it| it.load == load && it.row != Row::Direct) else {
                continue;
            };
            let bars: Vec<plot::Bar> = self
                .results
                .iter()
                .filter(|it| it.load == load && it.figure == main.figure)
                .map(|it| plot::Bar { name: it.row.name(), values: sorted(&it.values) })
                .collect();
            let title = format!("{}: {}", load.title(), main.figure);
            let file = format!("{}.svg", load.word());
            fs::write(directory.join(&file), plot::bars(&title, &bars))?;
            write!(page, "\n## {}\n\n{}\n![{title}]({file})\n", load.title(), self.table(load))?;
        }
        fs::write(directory.join("README.md"), page)?;
        Ok(())
    }

    fn cell(&self, load: Load, row: Row, figure: &str) -> String {
        let Some(values) = self.values(load, row, figure) else { return String::new() };
        let middle = median(&values);
        let mut cell = number(middle);
        if let [least, .., most] = values[..]
            && figure != DELIVERED
        {
            write!(cell, " ({}–{})", number(least), number(most)).expect(INFALLIBLE);
        }
        if !matches!(row, Row::Direct | Row::Nginx)
            && figure != DELIVERED
            && let Some(base) = self.middle(load, Row::Nginx, figure).filter(|base| *base > 0.0)
        {
            write!(cell, " ×{:.2}", middle / base).expect(INFALLIBLE);
        }
        cell
    }

    fn aims(&self) -> String {
        let mut table = "| aim | most | measured | |\n|---|--:|--:|---|\n".to_owned();
        for (name, load, row, figure, base, most) in AIMS {
            let Some(mut value) = self.middle(load, row, figure) else { continue };
            if let Some(base) = base {
                let Some(base) = self.middle(load, base, figure) else { continue };
                value /= base;
            }
            let verdict = if value <= most { "reached" } else { "**missed**" };
            writeln!(table, "| {name} | {most} | {} | {verdict} |", number(value)).expect(INFALLIBLE);
        }
        let lost = self.results.iter().filter(|it| it.figure == DELIVERED);
        let least = lost.flat_map(|it| it.values.iter().copied()).fold(f64::INFINITY, f64::min);
        if least.is_finite() {
            let verdict = if least >= 100.0 { "reached" } else { "**missed**" };
            writeln!(table, "| records delivered, in every load, % | 100 | {} | {verdict} |", number(least))
                .expect(INFALLIBLE);
        }
        table
    }

    fn middle(&self, load: Load, row: Row, figure: &str) -> Option<f64> {
        self.values(load, row, figure).map(|values| median(&values))
    }

    fn values(&self, load: Load, row: Row, figure: &str) -> Option<Vec<f64>> {
        let series =
            self.results.iter().find(|it| it.load == load && it.row == row && it.figure == figure)?;
        Some(sorted(&series.values))
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// Of sorted values.
pub(crate) fn median(values: &[f64]) -> f64 {
    (values[values.len() / 2] + values[(values.len() - 1) / 2]) / 2.0
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Name, load, row, figure, what it is a ratio to, and the most it may be.
type Aim = (&'static str, Load, Row, &'static str, Option<Row>, f64);

const REQUEST: &str = "CPU µs per request";
const TURN: &str = "CPU µs per turn";
const NGINX: Option<Row> = Some(Row::Nginx);
const AIMS: [Aim; 14] = [
    ("small POST, CPU, capture off : nginx", Load::Message, Row::Off, REQUEST, NGINX, 1.0),
    ("small POST, CPU, everything on : nginx", Load::Message, Row::On, REQUEST, NGINX, 1.5),
    ("small POST, p99, everything on : nginx", Load::MessageRate, Row::On, "p99 µs", NGINX, 1.2),
    ("streamed run, CPU, everything on : nginx", Load::Stream, Row::On, "CPU µs per stream", NGINX, 1.0),
    ("whole turn, CPU, everything on : nginx", Load::Turn, Row::On, TURN, NGINX, 1.0),
    ("polled turn, CPU, everything on : nginx", Load::Polled, Row::On, TURN, NGINX, 1.5),
    ("delay per event, p99, everything on : nginx", Load::Events, Row::On, "p99 µs", NGINX, 1.0),
    ("RSS per idle stream, everything on : nginx", Load::Idle, Row::On, "RSS KB per stream", NGINX, 1.5),
    ("two workers : one, CPU per request", Load::Workers, Row::OnTwoWorkers, REQUEST, Some(Row::On), 1.1),
    ("turns/s, sink in order : sink dead", Load::Trouble, Row::On, "turns/s", Some(Row::OnSinkDead), 1.05),
    ("turns/s, disk in order : slow disk", Load::Trouble, Row::On, "turns/s", Some(Row::OnSlowDisk), 1.05),
    ("ms to the first connection", Load::Start, Row::On, "ms to first connection", None, 50.0),
    ("RSS at rest, MB", Load::Start, Row::On, "RSS MB at rest", None, 25.0),
    ("small POST over TLS, CPU, everything on : nginx", Load::Tls, Row::On, REQUEST, NGINX, 1.5),
];
const INTRODUCTION: &str = "\
`scripts/bench` writes this page. Each table compares threadtap with nginx and with no proxy at all
(*direct*), under the same load, against the same fake upstream, in one run. The rows take turns.

A cell has the median, the lowest and the highest value of the rounds, and the ratio of the median
to nginx's. CPU is the user and system time of all processes of the proxy. With everything on, it
counts until the last record is delivered. Delays count from when a request was due, not from when
it was sent.

*Everything on* means: capture of the Assistants API, SQLite on disk with every commit synced, a
Reconify sink to a local collector, and defaults for all else. nginx has one worker, HTTP/1.1 with
keep-alive to upstream, and no buffering, compression or access log. threadtap and the other proxies
have one worker too. The slow disk takes 100 ms for each sync. Tiny queues hold four segments.
";
const INFALLIBLE: &str = "a string takes everything";
