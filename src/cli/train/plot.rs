//! The picture: what fairness costs, and how the trainings went.

use std::error::Error;
use std::io::Write;
use std::ops::Range;

use epaint_default_fonts::UBUNTU_LIGHT;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::compare::{Comparison, Model, Training};
use crate::cli::failure::{Failure, Result};
use crate::cli::figures::{figure, given};
use crate::torch::Epoch;

/// Width and height in pixels.
pub const SIZE: (u32, u32) = (1800, 600);

const FONT: &str = "fairlayer";
const TITLE: (&str, u32) = (FONT, 26);
const LOSS: &str = "loss (cross-entropy)";
const TEXT: (&str, u32) = (FONT, 20);
const GREY: RGBColor = RGBColor(90, 90, 90);
/// The plain network, the one with the layer, the plain one projected: far apart for those, too, who see few colours.
const COLOURS: [RGBColor; 3] = [RGBColor(213, 94, 0), RGBColor(0, 114, 178), RGBColor(0, 140, 100)];

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
type Panel<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Writes the picture of a comparison as PNG.
pub fn write(comparison: &Comparison, out: &mut dyn Write) -> Result<()> {
    let failed = |error: Box<dyn Error>| Failure::new(format!("the picture cannot be drawn: {error}"));
    let mut pixels = vec![255; SIZE.0 as usize * SIZE.1 as usize * 3];
    draw(comparison, &mut pixels).map_err(|error| failed(error.to_string().into()))?;
    let mut encoder = png::Encoder::new(out, SIZE.0, SIZE.1);
    encoder.set_color(png::ColorType::Rgb);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&pixels)?;
        writer.finish()
    });
    written.map_err(|error| failed(error.into()))
}

fn draw(comparison: &Comparison, pixels: &mut [u8]) -> Drawn {
    register_font(FONT, FontStyle::Normal, UBUNTU_LIGHT).map_err(|_| "its font cannot be read")?;
    let area = BitMapBackend::with_buffer(pixels, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, rest) = area.split_horizontally(SIZE.0 / 3);
    let (middle, right) = rest.split_horizontally(SIZE.0 / 3);
    trade_off(comparison, &left)?;
    losses(comparison, &middle)?;
    gaps(comparison, &right)?;
    area.present()?;
    Ok(())
}

/// The three networks on the test rows: loss against gap.
fn trade_off(comparison: &Comparison, area: &Area<'_>) -> Drawn {
    let (measure, level) = (comparison.measure(), comparison.limit.level());
    let points: Vec<(&Model, f64, RGBColor)> = comparison
        .models
        .iter()
        .zip(COLOURS)
        .filter_map(|(model, colour)| Some((model, model.gap?.pooled, colour)))
        .collect();
    let x = range(points.iter().map(|(_, gap, _)| *gap).chain([0.0, level]), 0.0);
    let y = range(points.iter().map(|(model, ..)| model.loss), 0.5);
    let mut panel = axes(area, "Test rows", &format!("{measure}, pooled"), LOSS, (x, y.clone()))?;
    limit(&mut panel, comparison, [(level, y.start), (level, y.end)])?;
    for (model, gap, colour) in points {
        let name = format!("{}: loss {}, {measure} {}", model.name, figure(model.loss), figure(gap));
        let dot = panel.draw_series([Circle::new((gap, model.loss), 7, colour.filled())])?;
        dot.label(name).legend(move |(x, y)| Circle::new((x + 10, y), 6, colour.filled()));
    }
    legend(&mut panel)
}

/// The loss of both trainings, epoch by epoch.
fn losses(comparison: &Comparison, area: &Area<'_>) -> Drawn {
    let all = comparison.trainings.iter().flat_map(|training| &training.epochs);
    let y = range(all.flat_map(|epoch| [Some(epoch.train_loss), epoch.valid_loss]).flatten(), 0.4);
    let mut panel = axes(area, "Training: loss", "epoch", LOSS, (epochs(comparison), y))?;
    for (training, colour) in comparison.trainings.iter().zip(COLOURS) {
        let name = |rows: &str| format!("{}, {rows} rows", training.name);
        let pale = colour.mix(0.5).stroke_width(1);
        curve(&mut panel, training, |epoch| Some(epoch.train_loss), &name("training"), pale)?;
        curve(&mut panel, training, |epoch| epoch.valid_loss, &name("validation"), colour.stroke_width(2))?;
        kept(&mut panel, training, |epoch| epoch.valid_loss, colour)?;
    }
    legend(&mut panel)
}

/// The gap of the validation rows, epoch by epoch.
fn gaps(comparison: &Comparison, area: &Area<'_>) -> Drawn {
    let (measure, level, x) = (comparison.measure(), comparison.limit.level(), epochs(comparison));
    let all = comparison.trainings.iter().flat_map(|training| &training.epochs).filter_map(|epoch| epoch.valid_gap);
    let y = range(all.chain([0.0, level]), 0.4);
    let title = format!("Training: {measure} of the validation rows");
    let mut panel = axes(area, &title, "epoch", &format!("{measure}, pooled"), (x.clone(), y))?;
    limit(&mut panel, comparison, [(x.start, level), (x.end, level)])?;
    for (training, colour) in comparison.trainings.iter().zip(COLOURS) {
        curve(&mut panel, training, |epoch| epoch.valid_gap, training.name, colour.stroke_width(2))?;
        kept(&mut panel, training, |epoch| epoch.valid_gap, colour)?;
    }
    legend(&mut panel)
}

fn epochs(comparison: &Comparison) -> Range<f64> {
    let longest = comparison.trainings.iter().map(|training| training.epochs.len()).max().unwrap_or(0);
    1.0..longest.max(2) as f64
}

/// What holds these numbers with a little room at both sides, and above so much of it for the legend.
fn range(numbers: impl Iterator<Item = f64>, above: f64) -> Range<f64> {
    let (lo, hi) = numbers
        .filter(|number| number.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), number| (number.min(lo), number.max(hi)));
    let (lo, hi) = if lo <= hi { (lo, hi) } else { (0.0, 1.0) };
    let height = (hi - lo).max(1e-6 * lo.abs().max(hi.abs())).max(1e-9);
    lo - 0.06 * height..hi + (0.06 + above) * height
}

fn axes<'a, 'b>(
    area: &Area<'b>,
    title: &str,
    x: &str,
    y: &str,
    (across, up): (Range<f64>, Range<f64>),
) -> Drawn<Panel<'a, 'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(14).x_label_area_size(52).y_label_area_size(82).caption(title, TITLE.into_font());
    let mut panel = builder.build_cartesian_2d(across, up)?;
    let mut mesh = panel.configure_mesh();
    mesh.x_desc(x).y_desc(y).x_labels(6).y_labels(8).x_label_formatter(&tick).y_label_formatter(&tick);
    mesh.axis_desc_style(TEXT).label_style(TEXT).light_line_style(WHITE).bold_line_style(RGBColor(228, 228, 228));
    mesh.draw()?;
    Ok(panel)
}

/// A number on an axis: what rounding made of it is left out.
fn tick(number: &f64) -> String {
    given((number * 1e9).round() / 1e9)
}

/// The line at which the gap is held.
fn limit(panel: &mut Panel<'_, '_>, comparison: &Comparison, ends: [(f64, f64); 2]) -> Drawn {
    let line = panel.draw_series(DashedLineSeries::new(ends, 7, 5, GREY.stroke_width(2)))?;
    let name = format!("limit {}", given(comparison.limit.level()));
    line.label(name).legend(|(x, y)| DashedPathElement::new([(x, y), (x + 20, y)], 6, 4, GREY.stroke_width(2)));
    Ok(())
}

fn curve(
    panel: &mut Panel<'_, '_>,
    training: &Training,
    of: impl Fn(&Epoch) -> Option<f64>,
    name: &str,
    style: ShapeStyle,
) -> Drawn {
    let points = (1_u32..).zip(&training.epochs).filter_map(|(number, epoch)| Some((f64::from(number), of(epoch)?)));
    let line = panel.draw_series(LineSeries::new(points.filter(|(_, value)| value.is_finite()), style))?;
    line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    Ok(())
}

/// A dot at the epoch whose weights are kept.
fn kept(panel: &mut Panel<'_, '_>, training: &Training, of: impl Fn(&Epoch) -> Option<f64>, colour: RGBColor) -> Drawn {
    let value = training.epochs.get(training.kept).and_then(of).filter(|value| value.is_finite());
    let dot = value.map(|value| Circle::new(((training.kept + 1) as f64, value), 5, colour.filled()));
    panel.draw_series(dot)?;
    Ok(())
}

fn legend<'a, 'b: 'a>(panel: &mut Panel<'a, 'b>) -> Drawn {
    let mut labels = panel.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperRight).margin(6).legend_area_size(28).label_font(TEXT);
    labels.background_style(WHITE.mix(0.85)).border_style(RGBColor(200, 200, 200)).draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_numbers_and_are_never_empty() {
        let of = |numbers: &[f64]| range(numbers.iter().copied(), 0.5);
        assert_eq!(of(&[0.0, 1.0, f64::NAN, f64::INFINITY]), -0.06..1.56);
        for numbers in [&[][..], &[0.0], &[1e9; 3], &[-5.0, -5.0], &[f64::NAN]] {
            let Range { start, end } = of(numbers);
            assert!(start < end && numbers.iter().all(|number| number.is_nan() || (start..end).contains(number)));
        }
    }
}
