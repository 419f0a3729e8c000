//! The five ratios that the upstream makes pictures and videos in.

use std::fmt;

use crate::chat::suffix::Product;

/// Ratio of width to height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aspect {
    /// 1:1, the default of pictures.
    #[default]
    Square,
    /// 3:4, higher than wide.
    Portrait,
    /// 4:3, wider than high.
    Landscape,
    /// 16:9, the default of videos.
    Wide,
    /// 9:16, narrower than [`Self::Portrait`].
    Tall,
}

const ALL: [Aspect; 5] = [Aspect::Square, Aspect::Portrait, Aspect::Landscape, Aspect::Wide, Aspect::Tall];

impl Aspect {
    /// The ratio for a size as callers write it: `1024x1024`, `16:9`, or a word such as `auto`. Anything else means a
    /// square, as the forerunner did; callers are told which ratio was taken.
    #[must_use]
    pub fn of_size(size: &str) -> Self {
        Self::parse(size).unwrap_or_default()
    }

    /// The ratio of a picture or video. Without a size in numbers, pictures are square and videos wide.
    #[must_use]
    pub fn of(size: Option<&str>, product: Product) -> Self {
        size.and_then(Self::parse).unwrap_or(match product {
            Product::Image | Product::ImageEdit => Self::Square,
            Product::Video => Self::Wide,
        })
    }

    fn parse(size: &str) -> Option<Self> {
        let mut sides = size.split(['x', 'X', '*', '×', ':']).map(|side| side.trim().parse::<u32>());
        match (sides.next(), sides.next(), sides.next()) {
            (Some(Ok(width)), Some(Ok(height)), None) if width > 0 && height > 0 => Some(Self::nearest(width, height)),
            _ => None,
        }
    }

    /// The ratio nearest to this one, by the logarithm of their quotient.
    fn nearest(width: u32, height: u32) -> Self {
        let wanted = f64::from(width) / f64::from(height);
        let distance = |aspect: Self| {
            let (width, height) = aspect.sides();
            (wanted / (f64::from(width) / f64::from(height))).ln().abs()
        };
        ALL.into_iter().min_by(|one, other| distance(*one).total_cmp(&distance(*other))).unwrap_or_default()
    }

    /// The two numbers of the ratio.
    #[must_use]
    pub fn sides(self) -> (u32, u32) {
        match self {
            Self::Square => (1, 1),
            Self::Portrait => (3, 4),
            Self::Landscape => (4, 3),
            Self::Wide => (16, 9),
            Self::Tall => (9, 16),
        }
    }

    /// The ratio as the upstream writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Square => "1:1",
            Self::Portrait => "3:4",
            Self::Landscape => "4:3",
            Self::Wide => "16:9",
            Self::Tall => "9:16",
        }
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_size() {
        for size in [None, Some("auto"), Some("")] {
            for (product, expected) in [(Product::Image, "1:1"), (Product::ImageEdit, "1:1"), (Product::Video, "16:9")]
            {
                assert_eq!(Aspect::of(size, product).as_str(), expected, "{size:?} {product:?}");
            }
        }
        assert_eq!(Aspect::of(Some("720x1280"), Product::Video).as_str(), "9:16");
    }

    #[test]
    fn sizes() {
        for (size, expected) in [
            ("256x256", "1:1"),
            ("1024x1024", "1:1"),
            ("1792x1024", "16:9"),
            ("1024x1792", "9:16"),
            ("1152x768", "4:3"),
            ("768x1152", "3:4"),
            ("1536x1024", "4:3"),
            ("1024x1536", "3:4"),
            ("1280x720", "16:9"),
            ("720x1280", "9:16"),
            ("1920*1080", "16:9"),
            ("16:9", "16:9"),
            (" 3 : 4 ", "3:4"),
            ("1x100", "9:16"),
            ("100x1", "16:9"),
            ("4294967295x1", "16:9"),
            ("auto", "1:1"),
            ("", "1:1"),
            ("0x5", "1:1"),
            ("5x0", "1:1"),
            ("-5x5", "1:1"),
            ("1x2x3", "1:1"),
            ("99999999999x1", "1:1"),
        ] {
            assert_eq!(Aspect::of_size(size).as_str(), expected, "{size}");
        }
    }
}
