// A small HTTP answer for the keep-alive bench. Usage: http-server.js HOST PORT.
import { createServer } from "node:http";

const [host, port] = process.argv.slice(2);
const body = Buffer.alloc(128, "x");
createServer((_request, response) => {
  response.writeHead(200, { "content-length": body.length });
  response.end(body);
}).listen(Number(port), host);
