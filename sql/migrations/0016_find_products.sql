-- Each statement is a transaction of its own.
-- Listings, searches and what to buy instead read only what they show, however large the catalogue is.
-- What stands in an index by is_available leaves it when it is sold out, so a sale is written to the
-- indexes only where that turns.

drop index concurrently if exists products_by_name;

create index concurrently products_by_name
    on products ((left(name, 100)), id) where status <> 'draft';

drop index concurrently if exists products_by_category_and_name;

create index concurrently products_by_category_and_name
    on products (category, (left(name, 100)), id) where status <> 'draft';

drop index concurrently if exists products_by_price;

create index concurrently products_by_price
    on products (base_price, id) where is_available;

drop index concurrently if exists products_by_category_and_price;

create index concurrently products_by_category_and_price
    on products (category, base_price, id) where is_available;

drop index concurrently if exists products_by_words;

-- The signs are those that would make one word of several (an address, a path, a tag). A vector has
-- room for a megabyte, so a description counts up to there.
create index concurrently products_by_words
    on products using gin (to_tsvector('simple'::regconfig,
        translate(id || ' ' || name || ' ' || category || ' ' || left(description, 5000),
                  '-_./@:<>&+~', '           ')));

-- How often which word occurs.
analyze products;
