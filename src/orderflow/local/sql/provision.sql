-- name: roles
-- Which of these roles exist.
SELECT rolname::text AS name FROM pg_roles WHERE rolname = ANY($1::text[]);

-- name: databases
-- Which of these databases exist.
SELECT datname::text AS name FROM pg_database WHERE datname = ANY($1::text[]);

-- name: databases_open_to_all
-- Which of these databases everybody may connect to.
SELECT datname::text AS name
FROM pg_database AS d
WHERE datname = ANY($1::text[]) AND EXISTS (
    SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS entry
    WHERE entry.grantee = 0 AND entry.privilege_type = 'CONNECT'
);

-- name: is_superuser
-- Whether we are one.
SELECT rolsuper FROM pg_roles WHERE rolname = current_user;

-- name: create_role
-- The statement that makes an owner role; $2 is its password, or null.
SELECT format('CREATE ROLE %I LOGIN', $1::text) || coalesce(format(' PASSWORD %L', $2::text), '');

-- name: join_role
-- The statement that lets us, who are no superuser, make databases for a role.
SELECT format('GRANT %I TO CURRENT_USER', $1::text);

-- name: create_database
-- The statement that makes a database of the role with the same name.
SELECT format('CREATE DATABASE %I OWNER %I ENCODING ''UTF8'' TEMPLATE template0', $1::text, $1::text);

-- name: close_database
-- The statement that keeps other roles out of a database.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $1::text);
