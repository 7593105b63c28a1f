"""Counts visits in PostgreSQL and in Redis."""
import http.server
import os

import psycopg2
import redis

cache = redis.Redis(os.environ["CACHE_HOST"])
password = open(os.environ["DB_PASSWORD_FILE"]).read()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = "ok\n"
        if self.path != "/health":
            with psycopg2.connect(host=os.environ["DB_HOST"], user="shop", dbname="shop", password=password) as db:
                with db.cursor() as c:
                    c.execute("insert into visits default values returning n")
                    text = "visit %d, hit %d\n" % (c.fetchone()[0], cache.incr("hits"))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())


http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
