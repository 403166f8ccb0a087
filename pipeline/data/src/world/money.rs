//! Scenes with sums: buying, earning, eating.

use super::{
    pen::zipf,
    story::{MOST_COINS, Story},
    words::{coins, counted},
};

/// Most coins that a keeper takes off a price.
const LARGEST_DISCOUNT: u32 = 3;

impl Story<'_, '_, '_> {
    /// The hero goes where the wish is sold, near places being likelier, and buys it if the coins suffice.
    pub(super) fn shop(&mut self) {
        self.shopped = true;
        self.company = None;
        let Some(wish) = self.wish.take() else { return };
        let weight = |(place, price): (usize, u32)| {
            let keeps = self.facts.places[place].keeper == self.hero;
            let weight = if keeps { 0 } else { 1_000 / (self.facts.miles(self.place, place) + 5) };
            (weight, (place, price))
        };
        let options: Vec<_> = self.facts.sellers(wish.thing).map(weight).collect();
        let &(place, price) = self.pen.pick(&options);
        self.walk_to(place, self.facts.things[wish.thing].plural);
        let keeper = self.facts.places[place].keeper;
        self.cast.push(keeper);

        let thing = self.facts.things[wish.thing].name;
        let bought = if price <= self.coins { self.pay(thing, price, keeper) } else { self.fall_short(thing, price) };
        match bought {
            true => self.items.push(super::story::Item { holder: Some(self.hero), ..wish }),
            false => self.wish = Some(wish),
        }
    }

    fn walk_to(&mut self, place: usize, goods: &str) {
        let (hero, town) = (self.hero().name, &self.facts.places[place]);
        let keeper = self.person(town.keeper).name;
        let miles = self.facts.miles(self.place, place);
        self.pen.say(&match miles {
            0 => format!("So {hero} went round the corner to {keeper}, who sold {goods} in {}.", town.name),
            _ => {
                let way = counted(miles, "mile", "miles");
                format!("So {hero} walked {way} to {}, where {keeper} sold {goods}.", town.name)
            }
        });
        self.place = place;
    }

    /// Pays the price or less; always ends with the thing bought.
    fn pay(&mut self, thing: &str, price: u32, keeper: usize) -> bool {
        let (hero, keeper) = (self.hero().name, self.person(keeper).name);
        let had = coins(self.coins);
        let sentence = match self.pen.choose(&[5, 3, 2]) {
            0 => {
                self.coins -= price;
                format!("The {thing} cost {}, so of {had} {hero} kept {}.", coins(price), coins(self.coins))
            }
            1 => {
                self.coins -= price;
                let left = coins(self.coins);
                format!("{keeper} asked for {}, {hero} had {had} and kept {left}.", coins(price))
            }
            _ => {
                let most = LARGEST_DISCOUNT.min(price - 1) as usize;
                let paid = price - 1 - self.pen.rank(most, 0) as u32;
                self.coins -= paid;
                let (price, paid, left) = (coins(price), coins(paid), coins(self.coins));
                format!("{keeper} wanted {price} but took {paid}, so of {had} {hero} kept {left}.")
            }
        };
        self.pen.say(&sentence);
        true
    }

    /// The friend lends what is missing, or there is no thing; whether the hero has it now.
    fn fall_short(&mut self, thing: &str, price: u32) -> bool {
        let hero = self.hero();
        let missing = price - self.coins;
        let (price, had) = (coins(price), coins(self.coins));
        self.pen.say(&format!("The {thing} cost {price}, but {} had only {had}: {missing} too few.", hero.name));
        let friend = hero.friend;
        let lends = !self.cast.contains(&friend);
        if self.pen.choose(&[1, if lends { 2 } else { 0 }]) == 0 {
            self.pen.say(&format!("So there was no {thing} for {} that day.", hero.name));
            return false;
        }
        let (name, object) = (self.person(friend).name, hero.pronoun.object);
        let missing_coins = coins(missing);
        self.pen.say(&format!("Good old {name} lent {object} {missing_coins}, and so the {thing} was paid for."));
        self.coins = 0;
        self.debt = Some((friend, missing));
        self.cast.push(friend);
        self.company = Some(friend);
        true
    }

    /// Several pieces of one food: a product and a difference.
    pub(super) fn buy_food(&mut self) {
        let affordable = |(index, food): (usize, &super::facts::Food)| {
            if 2 * food.price <= self.coins { zipf(index) } else { 0 }
        };
        let weights: Vec<u32> = self.facts.foods.iter().enumerate().map(affordable).collect();
        let index = self.pen.choose(&weights);
        let food = &self.facts.foods[index];
        let most = (self.coins / food.price).min(9);
        let count = 2 + self.pen.rank(most as usize - 1, 0) as u32;
        self.coins -= count * food.price;
        self.food = Some((index, count));
        let (hero, cost) = (self.hero().name, coins(count * food.price));
        let (bought, each) = (counted(count, food.name, food.plural), coins(food.price));
        let left = coins(self.coins);
        self.pen.say(&format!("At the stall {hero} bought {bought} at {each} each for {cost} and kept {left}."));
    }

    /// Some of the food, or all.
    pub(super) fn eat(&mut self) {
        let Some((food, left)) = self.food else { return };
        let eaten = 1 + self.pen.rank(left as usize, 0) as u32;
        self.food = Some((food, left - eaten));
        let rest = match left - eaten {
            0 => "none was left".into(),
            1 => "1 was left".into(),
            rest => format!("{rest} were left"),
        };
        let (hero, plural) = (self.hero().name, self.facts.foods[food].plural);
        match left {
            1 => self.pen.say(&format!("{hero} ate the last of the {plural}.")),
            _ => self.pen.say(&format!("{hero} ate {eaten} of the {left} {plural}, so {rest}.")),
        }
    }

    /// Days of somebody's trade at its wage: a product and a sum.
    pub(super) fn work(&mut self) {
        let boss = self.somebody(&self.cast.clone(), None);
        let (name, trade) = (self.person(boss).name, &self.facts.trades[self.person(boss).trade]);
        let most = ((MOST_COINS - self.coins) / trade.wage).min(9);
        let days = 2 + self.pen.rank(most as usize - 1, 0) as u32;
        let earned = days * trade.wage;
        self.coins += earned;
        self.cast.push(boss);
        self.company = Some(boss);
        let hero = self.hero().name;
        let (wage, earned, total) = (coins(trade.wage), coins(earned), coins(self.coins));
        let trade = trade.name;
        self.pen.say(&format!(
            "Then {hero} worked {days} days for {name} the {trade} at {wage} a day, earned {earned} and now had {total}."
        ));
    }
}
