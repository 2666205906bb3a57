-- held_units(of_product, of_variant): the number of units that active reservations hold of a variant, or
-- of a product with all its variants (of_variant NULL); at most the largest integer. Reads all active
-- reservations.
-- Locks: none.
create or replace function held_units(of_product text, of_variant text) returns integer
language sql stable
set search_path from current
as $$
    select least(coalesce(sum(l.quantity), 0), 2147483647)::integer
      from reservations r join reservation_lines l on l.reservation_id = r.id
     where r.status = 'active' and l.product_id = of_product
       and (of_variant is null or l.variant_id = of_variant)
$$;
