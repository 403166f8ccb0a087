//! An accountant who knows nothing of the grammar reads stories and recomputes sums and belongings.

use std::collections::BTreeMap;

use super::{Split, stories};

/// What fills the gaps `{}` of a template, shortest first.
fn gaps<'t, const N: usize>(sentence: &'t str, template: &str) -> Option<[&'t str; N]> {
    let mut literals = template.split("{}");
    let mut rest = sentence.strip_prefix(literals.next()?)?;
    let mut found = [""; N];
    for (slot, literal) in found.iter_mut().zip(literals) {
        let end = if literal.is_empty() { rest.len() } else { rest.find(literal)? };
        *slot = &rest[..end];
        rest = &rest[end + literal.len()..];
    }
    rest.is_empty().then_some(found)
}

fn amount(text: &str) -> i64 {
    match text.split(' ').next() {
        Some("no") | None => 0,
        Some(number) => number.parse().unwrap_or(i64::MIN / 4),
    }
}

#[derive(Default)]
struct Accountant {
    hero: String,
    coins: i64,
    wish: Option<String>,
    /// Who has the `red scarf`.
    holders: BTreeMap<String, Option<String>>,
    lost: String,
    food: i64,
    debt: Option<String>,
    /// Sentences of the end that were seen.
    ending: Vec<String>,
    sums: usize,
}

impl Accountant {
    fn check(text: &str) -> Result<usize, String> {
        let mut accountant = Accountant::default();
        let text = text.strip_suffix('.').ok_or("no full stop at the end")?;
        for (index, sentence) in text.split(". ").enumerate() {
            let read = if index == 0 { accountant.open(sentence) } else { accountant.read(sentence) };
            read.map_err(|reason| format!("{sentence}: {reason}"))?;
        }
        accountant.finish()
    }

    fn open(&mut self, sentence: &str) -> Result<(), String> {
        let hero = gaps(sentence, "There was once {} called {}, who lived in {}").map(|[_, hero, _]| hero);
        let hero = hero.or_else(|| gaps(sentence, "In {} lived {} called {}").map(|[_, _, hero]| hero));
        let hero = hero.or_else(|| gaps(sentence, "{} the {} lived in {}").map(|[hero, ..]: [_; 3]| hero));
        let hero = hero.or_else(|| gaps(sentence, "{} was {} in {}").map(|[hero, ..]: [_; 3]| hero));
        self.hero = hero.ok_or("nobody is introduced")?.to_string();
        Ok(())
    }

    fn spend(&mut self, had: &str, spent: i64, left: &str) -> Result<(), String> {
        self.sums += 1;
        let right = self.coins == amount(had) && amount(had) - spent == amount(left);
        self.coins = amount(left);
        if right && self.coins >= 0 { Ok(()) } else { Err(format!("{had} less {spent} is not {left}")) }
    }

    fn obtain_wish(&mut self) -> Result<(), String> {
        let item = self.wish.take().ok_or("nothing was wanted")?;
        self.holders.insert(item, Some(self.hero.clone()));
        Ok(())
    }

    fn read(&mut self, sentence: &str) -> Result<(), String> {
        if sentence.contains(" said that ") {
            return Ok(());
        }
        self.read_money(sentence)
            .or_else(|| self.read_belongings(sentence))
            .unwrap_or_else(|| self.read_ending(sentence))
    }

    fn read_money(&mut self, sentence: &str) -> Option<Result<(), String>> {
        if let Some([_, had, _]) = gaps::<3>(sentence, "One {} had {} in {}") {
            self.coins = amount(had);
            return Some(Ok(()));
        }
        if let Some([_, price, had, _, left]) = gaps::<5>(sentence, "The {} cost {}, so of {} coins {} kept {}") {
            return Some(self.spend(had, amount(price), left).and_then(|()| self.obtain_wish()));
        }
        if let Some([_, price, _, had, left]) = gaps::<5>(sentence, "{} asked for {}, {} had {} and kept {}") {
            return Some(self.spend(had, amount(price), left).and_then(|()| self.obtain_wish()));
        }
        if let Some([_, price, paid, had, _, left]) =
            gaps::<6>(sentence, "{} wanted {} but took {}, so of {} coins {} kept {}")
        {
            assert!(amount(paid) < amount(price));
            return Some(self.spend(had, amount(paid), left).and_then(|()| self.obtain_wish()));
        }
        if let Some([_, price, _, had, missing]) = gaps::<5>(sentence, "The {} cost {}, but {} had only {}: {} too few")
        {
            self.debt = Some(missing.to_string());
            let right = amount(had) == self.coins && amount(price) - amount(had) == amount(missing);
            return Some(if right { Ok(()) } else { Err("wrong difference".into()) });
        }
        if let Some([friend, _, lent, _]) = gaps::<4>(sentence, "Good old {} lent {} {}, and so the {} was paid for") {
            let missing = self.debt.replace(format!("{} owed {friend} {lent}", self.hero)).unwrap_or_default();
            self.coins = 0;
            let right = amount(&missing) == amount(lent);
            return Some(if right { self.obtain_wish() } else { Err("wrong loan".into()) });
        }
        if sentence.starts_with("So there was no ") {
            self.debt = None;
            return Some(Ok(()));
        }
        self.read_products(sentence)
    }

    fn read_products(&mut self, sentence: &str) -> Option<Result<(), String>> {
        if let Some([_, bought, each, cost, left]) =
            gaps::<5>(sentence, "At the stall {} bought {} at {} each for {} and kept {}")
        {
            self.food = amount(bought);
            let right = amount(bought) * amount(each) == amount(cost);
            let had = self.coins.to_string();
            return Some(if right { self.spend(&had, amount(cost), left) } else { Err("wrong product".into()) });
        }
        if let Some([_, days, _, wage, earned, total]) =
            gaps::<6>(sentence, "Then {} worked {} days for {} at {} a day, earned {} and now had {}")
        {
            let right = amount(days) * amount(wage) == amount(earned);
            let had = self.coins.to_string();
            return Some(if right { self.spend(&had, -amount(earned), total) } else { Err("wrong product".into()) });
        }
        if let Some([_, eaten, of, _, left]) = gaps::<5>(sentence, "{} ate {} of the {} {}, so {} left") {
            let left = if left.starts_with("none") { 0 } else { amount(left) };
            let right = eaten != "the last" && amount(of) == self.food && self.food - amount(eaten) == left;
            self.food = left;
            return Some(if right { Ok(()) } else { Err("wrong rest".into()) });
        }
        let [_, _] = gaps::<2>(sentence, "{} ate the last of the {}")?;
        let right = std::mem::take(&mut self.food) == 1;
        Some(if right { Ok(()) } else { Err("was not the last".into()) })
    }

    fn read_belongings(&mut self, sentence: &str) -> Option<Result<(), String>> {
        if let Some([giver, _, colour, thing, _]) = gaps::<5>(sentence, "In return {} gave {} a {} {} of {}") {
            assert_ne!(giver, self.hero);
            self.holders.insert(format!("{colour} {thing}"), Some(self.hero.clone()));
            return Some(Ok(()));
        }
        if let Some([_, colour, thing, _]) = gaps::<4>(sentence, "{} wanted a {} {} of {}") {
            self.wish = Some(format!("{colour} {thing}"));
            return Some(Ok(()));
        }
        if let Some([giver, other, given]) = gaps::<3>(sentence, "{} gave {} the {}") {
            let given = given.strip_suffix(" as a present").unwrap_or(given.split(',').next()?);
            return Some(self.hand_over(giver, given, Some(other)));
        }
        if let Some([loser, lost]) = gaps::<2>(sentence, "{} lost the {}") {
            self.lost = lost.split(' ').take(2).collect::<Vec<_>>().join(" ");
            return Some(self.hand_over(loser, &self.lost.clone(), None));
        }
        let [finder, end] = gaps::<2>(sentence, "{} found it{}")?;
        let holder = match end {
            " and kept it" => Some(finder.to_string()),
            " and gave it back" => Some(self.hero.clone()),
            _ => None,
        };
        self.holders.insert(self.lost.clone(), holder);
        Some(Ok(()))
    }

    fn hand_over(&mut self, from: &str, item: &str, to: Option<&str>) -> Result<(), String> {
        let before = self.holders.insert(item.to_string(), to.map(str::to_string));
        if before == Some(Some(from.to_string())) { Ok(()) } else { Err(format!("{from} did not have the {item}")) }
    }

    fn read_ending(&mut self, sentence: &str) -> Result<(), String> {
        let parts = ["In the evening ", "At sunset ", "When night came "].map(|start| sentence.strip_prefix(start));
        let belongings = parts.into_iter().flatten().next();
        let lines = [" had the ", " was never seen again", " still wanted ", " owed "];
        if let Some(line) = belongings.or_else(|| lines.iter().any(|line| sentence.contains(line)).then_some(sentence))
        {
            self.ending.push(line.to_string());
        }
        Ok(())
    }

    /// The sentences of the end are exactly those that follow from the story; how many sums were checked.
    fn finish(self) -> Result<usize, String> {
        let hero = &self.hero;
        let mut own = vec![match self.coins {
            0 => "no coins".to_string(),
            1 => "1 coin".to_string(),
            coins => format!("{coins} coins"),
        }];
        let mut expected = Vec::new();
        for (item, holder) in &self.holders {
            match holder {
                Some(holder) if holder == hero => own.push(format!("the {item}")),
                Some(holder) => expected.push(format!("{holder} had the {item}")),
                None => expected.push(format!("The {item} was never seen again")),
            }
        }
        expected.extend(self.wish.map(|wish| format!("{hero} still wanted a {wish}")));
        expected.extend(self.debt);
        let mut ending = self.ending.iter();
        let first = ending.next().and_then(|line| line.strip_prefix(&format!("{hero} had "))).ok_or("no ending")?;
        let mut told: Vec<_> = first.split(", ").flat_map(|part| part.split(" and ")).map(str::to_string).collect();
        if self.food > 0 {
            let food = told.pop().ok_or("no food")?;
            assert_eq!(amount(&food), self.food, "{food}");
        }
        told.sort();
        own.sort();
        let mut ending: Vec<_> = ending.cloned().collect();
        ending.sort();
        expected.sort();
        let right = told == own && ending == expected;
        if right { Ok(self.sums) } else { Err(format!("{own:?} {expected:?}, but told {told:?} {ending:?}")) }
    }
}

#[test]
fn sums_and_belongings_come_out_right_in_every_story() {
    let mut sums = 0;
    for story in stories(Split::Train, 3000) {
        sums += Accountant::check(&story.text).unwrap_or_else(|reason| panic!("{reason}\n{}", story.text));
    }
    assert!(sums > 3000, "{sums}");
}

/// Negative control of the test above: one coin more in the last account.
#[test]
fn the_accountant_notices_one_coin_too_many() {
    let mut wrong_accounts = 0;
    for story in stories(Split::Train, 200) {
        let starts = ["In the evening", "At sunset", "When night came"];
        let ending = starts.iter().filter_map(|start| story.text.find(start)).max().unwrap_or(0);
        let (before, account) = story.text.split_at(ending);
        let Some([start, coins, end]) = gaps::<3>(account, "{} had {} coins{}") else { continue };
        let wrong = format!("{before}{start} had {} coins{end}", amount(coins) + 1);
        assert!(Accountant::check(&wrong).is_err(), "{wrong}");
        wrong_accounts += 1;
    }
    assert!(wrong_accounts > 150, "{wrong_accounts}");
}
