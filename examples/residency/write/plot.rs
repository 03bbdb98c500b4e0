//! Owns pictures of curves, as SVG: axes with units, a mark for each measurement, and the names of the curves beside them.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::ticks::Scale;
use crate::report::Plot;
use crate::suite::Failure;

/// Size of the curves; names lie at the right, where each takes so much before it and for each character.
const SIZE: (u32, u32) = (880, 640);
const NAME_BEFORE: u32 = 50;
const NAME_CHARACTER: u32 = 8;

/// Colours that are told apart by most eyes (Okabe and Ito 2008), and grey; dashes would be next.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(110, 110, 110),
    RGBColor(0, 0, 0),
];

/// The picture.
pub(super) fn svg(plot: &Plot) -> Result<String, Failure> {
    let mut text = String::new();
    draw(plot, &mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn draw(plot: &Plot, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let points = || plot.curves.iter().flat_map(|(_, points)| points);
    let x = Scale::new(&plot.x, points().map(|point| point.0));
    let y = Scale::new(&plot.y, points().map(|point| point.1));
    let longest = plot.curves.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let names = NAME_BEFORE + NAME_CHARACTER * u32::try_from(longest)?;
    let area = SVGBackend::with_string(text, (SIZE.0 + names, SIZE.1)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0);
    let mut chart = ChartBuilder::on(&left)
        .caption(&plot.title, ("sans-serif", 21))
        .margin(14)
        .x_label_area_size(52)
        .y_label_area_size(86)
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(220, 220, 220))
        .x_desc(&plot.x.label)
        .y_desc(&plot.y.label)
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 17))
        .draw()?;
    for (i, (name, points)) in plot.curves.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        // Colours come again from the ninth curve on, in hollow marks.
        let style = if i < COLOURS.len() { colour.filled() } else { colour.stroke_width(2) };
        let placed: Vec<_> =
            points.iter().filter_map(|point| Some((x.position(point.0)?, y.position(point.1)?))).collect();
        chart.draw_series(LineSeries::new(placed.iter().copied(), colour.stroke_width(2)))?;
        // Marks of many points would hide the line.
        if placed.len() <= 200 {
            chart.draw_series(placed.iter().map(|at| Circle::new(*at, 4, style)))?;
        }
        let down = 60 + 24 * i32::try_from(i).unwrap_or(0);
        right.draw(&PathElement::new(vec![(0, down), (26, down)], colour.stroke_width(3)))?;
        right.draw(&Circle::new((13, down), 4, style))?;
        right.draw(&Text::new(name.clone(), (34, down - 8), ("sans-serif", 15)))?;
    }
    area.present()?;
    Ok(())
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let part = (value - self.least) / (self.most - self.least);
        let pixel = f64::from(from) + part * f64::from(to - from);
        #[expect(clippy::cast_possible_truncation, reason = "a pixel of a picture")]
        let pixel = pixel.round() as i32;
        pixel
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.least..self.most
    }
}

impl ValueFormatter<f64> for Scale {
    fn format(value: &f64) -> String {
        value.to_string()
    }

    fn format_ext(&self, value: &f64) -> String {
        self.text(*value)
    }
}
