//! Everything that differs between two images of a class, and the painting itself.

use std::f32::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::figure::{Figure, Part};
use super::shape::Shape;
use super::texture::Texture;

/// Renders one image as `[3, size, size]`.
pub(super) fn render(figure: &Figure, size: usize, random: &mut ChaCha8Rng, target: &mut [u8]) {
    let mut canvas = Canvas {
        size,
        colours: background(size, random),
        softness: random.random_range(0.8..1.6),
    };
    for _ in 0..random.random_range(1..=4) {
        clutter(&mut canvas, 0.06..0.16, random);
    }
    show(figure, &mut canvas, random);
    if random.random_bool(0.5) {
        clutter(&mut canvas, 0.07..0.13, random);
    }
    develop(&canvas, random, target);
}

struct Canvas {
    size: usize,
    /// `[size * size]` of red, green and blue, fractions of full brightness.
    colours: Vec<[f32; 3]>,
    /// Width of an edge, in pixels.
    softness: f32,
}

/// A shape at its place on the canvas, in fractions of the image's side.
struct Placed {
    shape: Shape,
    texture: Texture,
    phase: [f32; 2],
    colours: [[f32; 3]; 2],
    centre: [f32; 2],
    radius: f32,
    /// Row-major map from directions on the canvas to directions of the shape.
    to_shape: [f32; 4],
    /// Longest distance from the centre, in radii, that the shape can reach.
    reach: f32,
}

impl Canvas {
    fn paint(&mut self, placed: &Placed) {
        let side = self.size as f32;
        let centre = placed.centre.map(|position| position * side);
        let radius = placed.radius * side;
        let reach = placed.reach * radius + self.softness;
        let range = |middle: f32| {
            let first = (middle - reach).floor().clamp(0.0, side) as usize;
            first..(middle + reach).ceil().clamp(first as f32, side) as usize
        };
        let [a, b, c, d] = placed.to_shape;
        for row in range(centre[1]) {
            for column in range(centre[0]) {
                let (dx, dy) = (
                    column as f32 + 0.5 - centre[0],
                    row as f32 + 0.5 - centre[1],
                );
                let (x, y) = ((a * dx + b * dy) / radius, (c * dx + d * dy) / radius);
                let coverage =
                    (0.5 + placed.shape.depth(x, y) * radius / self.softness).clamp(0.0, 1.0);
                if coverage > 0.0 {
                    let share = placed.texture.share(x, y, placed.phase);
                    let colour = mix(placed.colours[0], placed.colours[1], share);
                    let pixel = &mut self.colours[row * self.size + column];
                    *pixel = mix(*pixel, colour, coverage);
                }
            }
        }
    }
}

/// Paints the figure in a pose and colours of its own.
fn show(figure: &Figure, canvas: &mut Canvas, random: &mut ChaCha8Rng) {
    let scale = random.random_range(0.18..0.31);
    let centre = [
        random.random_range(0.36..0.64),
        random.random_range(0.36..0.64),
    ];
    let angle = 0.42 * normal(random);
    let stretch = 0.12 * normal(random);
    let mirror = if random.random_bool(0.5) { -1.0 } else { 1.0 };
    // The same thing in quite other colours, as cars and flowers come in many.
    let recoloured = random.random_bool(0.3);
    let turn = if recoloured {
        random.random_range(0.0..1.0)
    } else {
        0.04 * normal(random)
    };
    let saturation = random.random_range(0.5..1.1);

    let (sin, cos) = angle.sin_cos();
    let (wide, high) = (mirror * (1.0 + stretch), 1.0 - stretch);
    for part in &figure.parts {
        let Part {
            shape,
            texture,
            radius,
            aspect,
            ..
        } = *part;
        let jitter = |random: &mut ChaCha8Rng| 0.06 * normal(random);
        let x = (part.centre[0] + jitter(random)) * wide;
        let y = (part.centre[1] + jitter(random)) * high;
        let part_angle = part.angle + 2.0 * jitter(random);
        let colours = part.colours.map(|[hue, strength, brightness]| {
            let hue = hue + turn + 0.02 * normal(random);
            rgb([
                hue,
                (strength * saturation).min(1.0),
                (brightness + 0.06 * normal(random)).clamp(0.0, 1.0),
            ])
        });
        // Canvas -> figure (turn back, unstretch) -> part (turn back, undo the aspect).
        let to_figure = [cos / wide, sin / wide, -sin / high, cos / high];
        let (part_sin, part_cos) = part_angle.sin_cos();
        let to_shape = product(
            [part_cos, part_sin, -part_sin / aspect, part_cos / aspect],
            to_figure,
        );
        canvas.paint(&Placed {
            shape,
            texture,
            phase: [random.random_range(0.0..1.0), random.random_range(0.0..1.0)],
            colours,
            centre: [
                centre[0] + scale * (x * cos - y * sin),
                centre[1] + scale * (x * sin + y * cos),
            ],
            radius: scale * radius * (1.0 + jitter(random)),
            to_shape,
            reach: 1.5 * aspect.max(1.0) * (1.0 + stretch.abs()),
        });
    }
}

/// Paints one shape that belongs to no class.
fn clutter(canvas: &mut Canvas, radius: std::ops::Range<f32>, random: &mut ChaCha8Rng) {
    let (sin, cos) = random.random_range(0.0..TAU).sin_cos();
    canvas.paint(&Placed {
        shape: Shape::draw(random),
        texture: if random.random_bool(0.5) {
            Texture::Plain
        } else {
            Texture::draw(random)
        },
        phase: [random.random_range(0.0..1.0), random.random_range(0.0..1.0)],
        colours: [any_colour(random), any_colour(random)],
        centre: [random.random_range(0.0..1.0), random.random_range(0.0..1.0)],
        radius: random.random_range(radius),
        to_shape: [cos, sin, -sin, cos],
        reach: 1.5,
    });
}

/// A gradient between two colours with a coarse pattern on it.
fn background(size: usize, random: &mut ChaCha8Rng) -> Vec<[f32; 3]> {
    let (from, to) = (any_colour(random), any_colour(random));
    let (sin, cos) = random.random_range(0.0..TAU).sin_cos();
    let waves: [[f32; 4]; 3] = std::array::from_fn(|_| {
        [
            random.random_range(-3.0..3.0),
            random.random_range(-3.0..3.0),
            random.random_range(0.0..1.0),
            random.random_range(0.0..0.25),
        ]
    });
    let side = size as f32;
    (0..size * size)
        .map(|position| {
            let x = (position % size) as f32 / side - 0.5;
            let y = (position / size) as f32 / side - 0.5;
            let pattern: f32 = waves
                .iter()
                .map(|[u, v, phase, height]| height * (TAU * (u * x + v * y + phase)).sin())
                .sum();
            mix(
                from,
                to,
                (0.5 + 0.7 * (x * cos + y * sin) + pattern).clamp(0.0, 1.0),
            )
        })
        .collect()
}

/// Light, contrast, a colour cast and sensor noise; then bytes.
fn develop(canvas: &Canvas, random: &mut ChaCha8Rng, target: &mut [u8]) {
    let light = random.random_range(-0.12..0.12);
    let contrast = random.random_range(0.65..1.15);
    let cast: [f32; 3] = std::array::from_fn(|_| random.random_range(0.85..1.15));
    let noise = random.random_range(0.01..0.07);
    let plane = canvas.size * canvas.size;
    for (position, colour) in canvas.colours.iter().enumerate() {
        for (channel, value) in colour.iter().enumerate() {
            let exposed =
                (value * cast[channel] - 0.5) * contrast + 0.5 + light + noise * normal(random);
            target[channel * plane + position] = (255.0 * exposed.clamp(0.0, 1.0)).round() as u8;
        }
    }
}

fn any_colour(random: &mut ChaCha8Rng) -> [f32; 3] {
    rgb([
        random.random_range(0.0..1.0),
        random.random_range(0.0..0.9),
        random.random_range(0.15..1.0),
    ])
}

/// Hue (a fraction of the circle, any number), saturation and brightness to red, green and blue.
fn rgb([hue, saturation, brightness]: [f32; 3]) -> [f32; 3] {
    [5.0, 3.0, 1.0].map(|offset| {
        let sector = (offset + 6.0 * hue).rem_euclid(6.0);
        brightness * (1.0 - saturation * sector.min(4.0 - sector).clamp(0.0, 1.0))
    })
}

fn mix(from: [f32; 3], to: [f32; 3], share: f32) -> [f32; 3] {
    std::array::from_fn(|channel| from[channel] + (to[channel] - from[channel]) * share)
}

/// Product of two row-major 2x2 matrices.
fn product([a, b, c, d]: [f32; 4], [e, f, g, h]: [f32; 4]) -> [f32; 4] {
    [a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h]
}

/// Close enough to a standard normal draw: the sum of four uniform ones, so never beyond 3.5.
fn normal(random: &mut ChaCha8Rng) -> f32 {
    let sum: f32 = (0..4).map(|_| random.random_range(-0.5..0.5_f32)).sum();
    sum * 3.0_f32.sqrt()
}
