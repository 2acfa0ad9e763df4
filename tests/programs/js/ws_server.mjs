// A WebSocket server of `ws`: echoes, and closes with 4000 on `close`.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), maxPayload: 1 << 25, perMessageDeflate: true });
server.on("connection", (socket, request) => {
  socket.on("message", (data, binary) => {
    const text = binary ? "" : data.toString();
    if (text === "close") socket.close(4000, "as asked");
    else if (text === "who") socket.send(request.headers["pilot-peer"] ?? "");
    else socket.send(data, { binary });
  });
});
