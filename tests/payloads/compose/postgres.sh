# What the image postgres does, with the server of the host, whose /usr is mounted.
set -eu
data=/var/lib/postgresql/data
programs=$(find /usr/lib/postgresql -name bin | sort | tail -n 1)
as_postgres() { setpriv --reuid 1000 --regid 1000 --clear-groups "$programs/$@"; }
echo "postgres:x:1000:1000::/tmp:/bin/sh" >>/etc/passwd
if [ ! -f $data/PG_VERSION ]; then
    chown 1000:1000 $data
    printf '%s' "$POSTGRES_PASSWORD" >/tmp/password
    chown 1000 /tmp/password
    as_postgres initdb --pgdata $data --username "$POSTGRES_USER" --auth scram-sha-256 --pwfile /tmp/password
    echo "CREATE DATABASE $POSTGRES_DB;" | as_postgres postgres --single -D $data postgres
fi
exec setpriv --reuid 1000 --regid 1000 --clear-groups "$programs/postgres" -D $data -p "$NODE_PORT" -k /tmp
