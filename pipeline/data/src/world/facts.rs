//! The fixed facts of the world, read from `tables.txt`.

use std::collections::HashMap;

const TABLES: &str = include_str!("tables.txt");

/// Who does things. Other tables are referred to by index.
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) pronoun: Pronoun,
    pub(super) trade: usize,
    pub(super) home: usize,
    pub(super) nature: usize,
    /// The thing that the person wants before all others; it fits the nature.
    pub(super) favourite: usize,
    pub(super) friend: usize,
    pub(super) pet: usize,
    pub(super) pet_name: &'static str,
}

/// How a person is referred to.
pub(super) struct Pronoun {
    pub(super) subject: &'static str,
    pub(super) object: &'static str,
    pub(super) possessive: &'static str,
}

/// Where things are sold.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) location: &'static str,
    mile: u32,
    pub(super) keeper: usize,
    /// (thing, price in coins)
    pub(super) goods: Vec<(usize, u32)>,
}

/// What is wanted, bought, given and lost.
pub(super) struct Thing {
    pub(super) name: &'static str,
    pub(super) plural: &'static str,
    pub(super) material: &'static str,
    pub(super) nature: usize,
}

/// Something that is said in two tenses.
pub(super) struct Tenses {
    pub(super) past: &'static str,
    pub(super) present: &'static str,
}

/// What people do for a living.
pub(super) struct Trade {
    pub(super) name: &'static str,
    pub(super) work: &'static str,
    /// Coins a day.
    pub(super) wage: u32,
}

/// What is bought by the piece.
pub(super) struct Food {
    pub(super) name: &'static str,
    pub(super) plural: &'static str,
    /// Coins a piece.
    pub(super) price: u32,
}

/// A kind of animal.
pub(super) struct Pet {
    pub(super) name: &'static str,
    pub(super) deeds: [&'static str; 3],
}

/// `cause` has `effect`, which has `outcome`.
pub(super) struct Chain {
    pub(super) cause: Tenses,
    pub(super) effect: Tenses,
    pub(super) outcome: Tenses,
}

/// All tables; a row's index is its rank of fame.
pub(super) struct Facts {
    pub(super) people: Vec<Person>,
    pub(super) places: Vec<Place>,
    pub(super) things: Vec<Thing>,
    pub(super) natures: Vec<Tenses>,
    pub(super) trades: Vec<Trade>,
    pub(super) foods: Vec<Food>,
    pub(super) pets: Vec<Pet>,
    pub(super) chains: Vec<Chain>,
}

impl Facts {
    /// Reads the tables.
    ///
    /// # Panics
    /// If the embedded tables are inconsistent, which a test would have seen.
    pub(super) fn new() -> Facts {
        let tables = Tables::parse();
        Facts {
            people: tables.rows("people", |row: [_; 9]| tables.person(row)),
            places: tables.rows("places", |row: [_; 5]| tables.place(row)),
            things: tables.rows("things", |[name, plural, material, nature]| Thing {
                name,
                plural,
                material,
                nature: tables.index("natures", nature),
            }),
            natures: tables.rows("natures", |[_, past, present]| Tenses { past, present }),
            trades: tables.rows("trades", |[name, work, wage]| Trade { name, work, wage: number(wage) }),
            foods: tables.rows("foods", |[name, plural, price]| Food { name, plural, price: number(price) }),
            pets: tables.rows("pets", |[name, deeds @ ..]: [_; 4]| Pet { name, deeds }),
            chains: tables.rows("causes", |[a, b, c, d, e, f]| Chain {
                cause: Tenses { past: a, present: b },
                effect: Tenses { past: c, present: d },
                outcome: Tenses { past: e, present: f },
            }),
        }
    }

    /// Miles between two places: all lie on one road.
    pub(super) fn miles(&self, from: usize, to: usize) -> u32 {
        self.places[from].mile.abs_diff(self.places[to].mile)
    }

    /// Places that sell `thing`, with its price there.
    pub(super) fn sellers(&self, thing: usize) -> impl Iterator<Item = (usize, u32)> {
        self.places.iter().enumerate().filter_map(move |(place, row)| {
            row.goods.iter().find(|(sold, _)| *sold == thing).map(|(_, price)| (place, *price))
        })
    }

    /// Things that a person of this nature wants.
    pub(super) fn things_for(&self, nature: usize) -> impl Iterator<Item = usize> {
        self.things.iter().enumerate().filter(move |(_, thing)| thing.nature == nature).map(|(index, _)| index)
    }
}

/// Rows by table.
struct Tables(HashMap<&'static str, Vec<Vec<&'static str>>>);

impl Tables {
    fn parse() -> Tables {
        let mut tables: HashMap<_, Vec<_>> = HashMap::new();
        let mut table = "";
        for line in TABLES.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                table = name;
            } else if !line.is_empty() && !line.starts_with('#') {
                tables.entry(table).or_default().push(line.split('|').map(str::trim).collect());
            }
        }
        Tables(tables)
    }

    fn rows<const N: usize, T>(&self, table: &str, read: impl Fn([&'static str; N]) -> T) -> Vec<T> {
        let columns = |row: &Vec<_>| <[_; N]>::try_from(row.as_slice()).expect("tables.txt: a row lacks a column");
        self.0[table].iter().map(|row| read(columns(row))).collect()
    }

    fn index(&self, table: &str, name: &str) -> usize {
        let found = self.0[table].iter().position(|row| row[0] == name);
        found.unwrap_or_else(|| panic!("tables.txt: no `{name}` in [{table}]"))
    }

    fn person(&self, row: [&'static str; 9]) -> Person {
        let [name, pronoun, trade, home, nature, favourite, friend, pet, pet_name] = row;
        Person {
            name,
            pronoun: match pronoun {
                "she" => Pronoun { subject: "she", object: "her", possessive: "her" },
                _ => Pronoun { subject: "he", object: "him", possessive: "his" },
            },
            trade: self.index("trades", trade),
            home: self.index("places", home),
            nature: self.index("natures", nature),
            favourite: self.index("things", favourite),
            friend: self.index("people", friend),
            pet: self.index("pets", pet),
            pet_name,
        }
    }

    fn place(&self, [name, location, mile, keeper, goods]: [&'static str; 5]) -> Place {
        let priced = |good: &str| {
            let (thing, price) = good.rsplit_once(' ').expect("tables.txt: a good lacks its price");
            (self.index("things", thing), number(price))
        };
        let goods = goods.split(", ").map(priced).collect();
        Place { name, location, mile: number(mile), keeper: self.index("people", keeper), goods }
    }
}

fn number(text: &str) -> u32 {
    text.parse().expect("tables.txt: not a number")
}
