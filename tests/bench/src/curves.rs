// SPDX-License-Identifier: GPL-2.0

//! `view_change` as curves: the data beside its picture, both in `Documentation`.

use crate::Problem;
use plotters::coord::combinators::IntoLogRange;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use serde::Deserialize;
use serde::Serialize;
use std::path::Path;

/// Folder of both, in the checkout.
const FOLDER: &str = "Documentation";
const DATA: &str = "view_change.csv";
const PICTURE: &str = "view_change.svg";

/// Of what the nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Virtual machines.
    Real,
    /// The state machine alone, in a simulated network.
    Simulated,
}

/// One change of the view: a member has died.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) kind: Kind,
    /// Members before the change.
    pub(crate) nodes: u32,
    /// Sent by all of them, beside the heartbeats that go all the time.
    pub(crate) messages: u32,
    /// From the death until the last survivor has the view.
    pub(crate) ms: u32,
}

/// Replaces the points of one kind, and the picture.
///
/// # Errors
/// Which file could not be read or written.
pub(crate) fn replace(top: &Path, kind: Kind, new: &[Point]) -> Result<(), Problem> {
    let folder = top.join(FOLDER);
    let mut points = read(&folder)?;
    points.retain(|p| p.kind != kind);
    points.extend(new);
    points.sort_by_key(|p| (p.kind, p.nodes));
    let text = to_csv(&points)?;
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
    };
    write(DATA, text)?;
    write(PICTURE, draw(&points)?)
}

fn read(folder: &Path) -> Result<Vec<Point>, Problem> {
    let path = folder.join(DATA);
    let about = |e: csv::Error| format!("{}: {e}", path.display());
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut file = csv::Reader::from_path(&path).map_err(about)?;
    file.deserialize().map(|p| p.map_err(about)).collect()
}

fn to_csv(points: &[Point]) -> Result<String, Problem> {
    let mut out = csv::Writer::from_writer(Vec::new());
    for p in points {
        out.serialize(p).map_err(|e| e.to_string())?;
    }
    let bytes = out.into_inner().map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|e| e.to_string())
}

/// One curve of each kind.
type Curve = fn(&Point) -> u32;

/// The picture, as SVG.
fn draw(points: &[Point]) -> Result<String, Problem> {
    let mut svg = String::new();
    let drawn = draw_into(&mut svg, points);
    drawn.map_err(|e| e.to_string())?;
    // Some editors and checks want it.
    svg.push('\n');
    Ok(svg)
}

fn draw_into(
    svg: &mut String,
    points: &[Point],
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>> {
    const SIZE: (u32, u32) = (900, 380);
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    let curves: [(_, _, Curve); 2] = [
        (&left, "messages of a change", |p| p.messages),
        (&right, "ms from the death to the last new view", |p| p.ms),
    ];
    for (half, title, value) in curves {
        let most = points.iter().map(value).max().unwrap_or(1).max(10);
        let mut chart = ChartBuilder::on(half)
            .caption(title, ("sans-serif", 15))
            .margin(12)
            .x_label_area_size(34)
            .y_label_area_size(56)
            .build_cartesian_2d((2u32..4096).log_scale().base(2.0), (1u32..most * 2).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("nodes")
            .x_label_formatter(&u32::to_string)
            .y_label_formatter(&u32::to_string)
            .disable_mesh()
            .draw()?;
        for (kind, name, colour) in [
            (Kind::Simulated, "simulated", BLUE),
            (Kind::Real, "virtual machines", RED),
        ] {
            let of_kind = || points.iter().filter(|p| p.kind == kind).map(|p| (p.nodes, value(p)));
            if of_kind().next().is_none() {
                continue;
            }
            chart
                .draw_series(LineSeries::new(of_kind(), colour.stroke_width(1)).point_size(3))?
                .label(name)
                .legend(move |(x, y)| Circle::new((x + 8, y), 3, colour.filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .draw()?;
    }
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_that_of_the_data() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(FOLDER);
        let points = read(&folder).expect("the data");
        assert!(!points.is_empty(), "{DATA} has no points");
        assert_eq!(
            to_csv(&points).expect("text"),
            std::fs::read_to_string(folder.join(DATA)).expect("the data")
        );
        let is = std::fs::read_to_string(folder.join(PICTURE)).expect("the picture");
        assert!(
            is == draw(&points).expect("a picture"),
            "{PICTURE} does not show {DATA}: tests/bench/bench view_change draws it"
        );
    }

    #[test]
    fn other_data_have_another_picture() {
        let p = |messages| Point {
            kind: Kind::Real,
            nodes: 4,
            messages,
            ms: 300,
        };
        let draw = |messages| draw(&[p(messages)]).expect("a picture");
        assert_eq!(draw(9), draw(9));
        assert_ne!(draw(9), draw(12));
    }

    #[test]
    fn points_of_the_other_kind_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join(FOLDER);
        std::fs::create_dir(&folder).expect("a folder");
        let p = |kind, nodes| Point {
            kind,
            nodes,
            messages: 3 * nodes,
            ms: 300,
        };
        let (real, one) = (p(Kind::Real, 3), p(Kind::Simulated, 16));
        replace(dir.path(), Kind::Simulated, &[p(Kind::Simulated, 64), one]).expect("written");
        replace(dir.path(), Kind::Real, &[real]).expect("written");
        replace(dir.path(), Kind::Simulated, &[one]).expect("written");
        assert_eq!(read(&folder).expect("read"), [real, one]);
    }
}
