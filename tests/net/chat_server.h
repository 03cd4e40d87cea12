// A server on this machine that answers chat completions as a test says, in every wrong way too.
#ifndef SC_TESTS_NET_CHAT_SERVER_H
#define SC_TESTS_NET_CHAT_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct ChatRequest {
    std::string head, body;
    size_t number; // 0: the first this server saw
};

struct ChatReply {
    int status = 200;
    std::string body;
    std::string headers;   // whole lines with \r\n
    int delay_ms = 0;      // before the first byte
    size_t cut = SIZE_MAX; // bytes of the body sent before the connection is reset
    bool silent = false;   // closes without a byte
};

class ChatServer
{
  public:
    using Handler = std::function<ChatReply(const ChatRequest &)>;

    explicit ChatServer(Handler handler) : handler_(std::move(handler))
    {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address = {};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        if (bind(listener_, reinterpret_cast<sockaddr *>(&address), length) != 0 ||
            listen(listener_, 64) != 0 ||
            getsockname(listener_, reinterpret_cast<sockaddr *>(&address), &length) != 0)
            throw std::runtime_error("no local server");
        port_ = ntohs(address.sin_port);
        acceptor_ = std::thread([this] {
            for (int fd; (fd = accept(listener_, nullptr, nullptr)) >= 0;) {
                std::lock_guard<std::mutex> guard(mutex_);
                sockets_.push_back(fd);
                workers_.emplace_back([this, fd] { serve(fd); });
            }
        });
    }
    ~ChatServer()
    {
        shutdown(listener_, SHUT_RDWR);
        acceptor_.join();
        close(listener_);
        {
            std::lock_guard<std::mutex> guard(mutex_);
            for (int fd : sockets_)
                shutdown(fd, SHUT_RDWR);
        }
        for (std::thread &w : workers_)
            w.join();
        for (int fd : sockets_)
            close(fd);
    }
    std::string url() const
    {
        return "http://127.0.0.1:" + std::to_string(port_) + "/v1";
    }
    std::vector<ChatRequest> requests()
    {
        std::lock_guard<std::mutex> guard(mutex_);
        return requests_;
    }
    size_t count()
    {
        return requests().size();
    }
    int most_at_once() const
    {
        return most_;
    }

    static std::string escape(const std::string &text)
    {
        std::string out;
        for (char c : text)
            out += c == '\n' ? "\\n" : c == '"' ? "\\\"" : c == '\\' ? "\\\\" : std::string(1, c);
        return out;
    }
    static ChatReply completion(const std::string &content, int prompt_tokens = 100,
                                int completion_tokens = 20, const std::string &finish = "stop")
    {
        ChatReply r;
        r.body = "{\"id\":\"c\",\"object\":\"chat.completion\",\"model\":\"mock-1\",\"choices\":[{\"index\":"
                 "0,\"message\":"
                 "{\"role\":\"assistant\",\"content\":\"" +
                 escape(content) + "\"},\"finish_reason\":\"" + finish +
                 "\"}],\"usage\":{\"prompt_tokens\":" + std::to_string(prompt_tokens) +
                 ",\"completion_tokens\":" + std::to_string(completion_tokens) + "}}";
        return r;
    }
    static ChatReply error(int status, const std::string &code = "x", const std::string &headers = "")
    {
        ChatReply r;
        r.status = status;
        r.headers = headers;
        r.body = "{\"error\":{\"message\":\"no\",\"type\":\"t\",\"param\":null,\"code\":\"" + code + "\"}}";
        return r;
    }

  private:
    void serve(int fd)
    {
        std::string bytes;
        char buffer[8192];
        for (;;) { // keep-alive
            size_t end;
            ssize_t n = 1;
            while ((end = bytes.find("\r\n\r\n")) == std::string::npos &&
                   (n = read(fd, buffer, sizeof buffer)) > 0)
                bytes.append(buffer, (size_t)n);
            if (end == std::string::npos)
                return;
            std::string head = bytes.substr(0, end + 4), lower = head;
            std::transform(lower.begin(), lower.end(), lower.begin(),
                           [](unsigned char c) { return (char)tolower(c); });
            size_t at = lower.find("content-length:");
            size_t length = at == std::string::npos ? 0 : std::stoul(lower.substr(at + 15));
            bytes.erase(0, end + 4);
            while (bytes.size() < length && (n = read(fd, buffer, sizeof buffer)) > 0)
                bytes.append(buffer, (size_t)n);
            ChatRequest r{head, bytes.substr(0, length), 0};
            bytes.erase(0, length);
            {
                std::lock_guard<std::mutex> guard(mutex_);
                r.number = requests_.size();
                requests_.push_back(r);
            }
            int now = ++running_;
            for (int most = most_; now > most && !most_.compare_exchange_weak(most, now);)
                ;
            ChatReply reply = handler_(r);
            std::this_thread::sleep_for(std::chrono::milliseconds(reply.delay_ms));
            --running_;
            if (reply.silent) {
                shutdown(fd, SHUT_RDWR);
                return;
            }
            std::string out = "HTTP/1.1 " + std::to_string(reply.status) +
                              " x\r\nContent-Type: application/json\r\nContent-Length: " +
                              std::to_string(reply.body.size()) + "\r\n" + reply.headers + "\r\n" +
                              reply.body.substr(0, reply.cut);
            for (size_t done = 0; done < out.size();) {
                ssize_t sent = send(fd, out.data() + done, out.size() - done, MSG_NOSIGNAL);
                if (sent <= 0)
                    return;
                done += (size_t)sent;
            }
            if (reply.cut < reply.body.size()) {
                shutdown(fd, SHUT_RDWR);
                return;
            }
        }
    }

    Handler handler_;
    int listener_ = -1, port_ = 0;
    std::thread acceptor_;
    std::vector<std::thread> workers_;
    std::vector<int> sockets_;
    std::mutex mutex_;
    std::vector<ChatRequest> requests_;
    std::atomic<int> running_{0}, most_{0};
};

#endif
